//! cargo run --release -p gateway -- examples/gateway/gateway.toml
//!
//! Without a file, one tenant from `GATEWAY_UPSTREAM`, `GATEWAY_CALLER_KEYS` and the `OAUTH_*` variables. With that file
//! it calls the doubles that `cargo run --release -p gateway --example upstream` starts.

use std::{io, path::Path};

use gateway::{Config, Gateway};
use tower_m2m::BoxError;

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    let path = std::env::args_os().nth(1);
    let variable = |name: &str| std::env::var(name).ok();
    let config = Config::read(path.as_deref().map(Path::new), variable)?;
    gateway::record_metrics()?;
    let gateway = Gateway::start(&config).await?;
    let (address, admin) = (gateway.address(), gateway.admin_address());
    tracing::info!(%address, %admin, "listening");
    asked_to_end().await?;
    tracing::info!("ending");
    gateway.shutdown().await;
    Ok(())
}

/// By the terminal, or by whoever runs the process.
async fn asked_to_end() -> io::Result<()> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            interrupt = tokio::signal::ctrl_c() => interrupt,
            _ = terminate.recv() => Ok(()),
        }
    }
    #[cfg(not(unix))]
    tokio::signal::ctrl_c().await
}
