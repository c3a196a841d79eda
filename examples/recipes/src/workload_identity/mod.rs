//! Workload identity: the platform vouches for the program, and no secret of its own is needed.

pub mod azure_imds;
pub mod gcp_metadata;
pub mod github_actions;
pub mod kubernetes;
pub mod spiffe;
