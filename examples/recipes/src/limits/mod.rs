//! Limits of vendors.

pub mod anthropic;
pub mod azure_openai;
pub mod discord;
pub mod github;
pub mod hubspot;
pub mod jira;
pub mod openai;
pub mod shopify_graphql;
pub mod slack;
pub mod stripe;
pub mod zendesk;
