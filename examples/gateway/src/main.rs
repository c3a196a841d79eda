//! cargo run --release -p gateway -- examples/gateway/gateway.toml
//!
//! Without a file, one tenant from `GATEWAY_UPSTREAM`, `GATEWAY_CALLER_KEYS` and the `OAUTH_*` variables. With that file
//! it calls the doubles that `cargo run --release -p gateway --example upstream` starts. SIGHUP, or a change of the file,
//! reloads it.

use std::{io, path::Path, process::ExitCode};

use gateway::{Config, Gateway, log};
use tower_m2m::BoxError;

fn main() -> ExitCode {
    let ended = tokio::runtime::Runtime::new()
        .map_err(BoxError::from)
        .and_then(|runtime| {
            let ended = runtime.block_on(run());
            // A hanging name resolution does not block the exit.
            runtime.shutdown_background();
            ended
        });
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // `main`'s own way of showing an error escapes what is in quotes.
            eprintln!("gateway: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<(), BoxError> {
    let variable = |name: &str| std::env::var(name).ok();
    let repeated = log::init(variable)?;
    let path = std::env::args_os().nth(1);
    let config = Config::read(path.as_deref().map(Path::new), variable)?;
    gateway::raise_descriptor_limit();
    gateway::record_metrics()?;
    let mut signals = Signals::new()?;
    let mut gateway = Gateway::start(&config).await?;
    let (address, admin) = (gateway.address(), gateway.admin_address());
    tracing::info!(%address, %admin, "listening");
    tokio::spawn(repeated.clone().report());

    let mut files = gateway.file_watch();
    let signal = loop {
        tokio::select! {
            signal = signals.next() => if let Signal::End(name) = signal {
                break name;
            },
            () = files.changed() => {}
        }
        // Before they are read, so that no later change is missed.
        files.mark();
        gateway.reload_file(variable);
        files.follow(&gateway);
    };
    tracing::info!(signal, "ending");
    tokio::select! {
        () = gateway.shutdown() => {}
        signal = signals.end() => {
            tracing::warn!(signal, "second signal: exiting immediately");
            repeated.report_all();
            // Without waiting for anything, threads of the runtime included.
            std::process::exit(1);
        }
    }
    repeated.report_all();
    tracing::info!("ended");
    Ok(())
}

/// What the terminal or the process's supervisor asks for.
enum Signal {
    End(&'static str),
    Reload,
}

struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    fn new() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::End("SIGINT"),
            _ = self.terminate.recv() => Signal::End("SIGTERM"),
            _ = self.hangup.recv() => Signal::Reload,
        }
    }

    #[cfg(not(unix))]
    fn new() -> io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Signal {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
        Signal::End("Ctrl-C")
    }

    /// The next request to end.
    async fn end(&mut self) -> &'static str {
        loop {
            if let Signal::End(name) = self.next().await {
                return name;
            }
        }
    }
}
