//! Token endpoints of vendors.

pub mod auth0;
pub mod cognito;
pub mod didit;
pub mod entra;
pub mod github_app;
pub mod google_service_account;
pub mod keycloak;
pub mod okta;
pub mod paypal;
pub mod salesforce;
pub mod sap;
pub mod servicenow;
pub mod shopify;
pub mod spotify;
pub mod yoid;
pub mod zoom;
