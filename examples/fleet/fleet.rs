//! The processes, as their parent sees them.

use std::{
    io,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
};

use crate::child::Task;

/// Killed when it is dropped.
pub(crate) struct Fleet {
    children: Vec<Child>,
    failed: Arc<AtomicU64>,
    next: usize,
}

impl Fleet {
    pub(crate) fn start(task: &Task, size: usize) -> io::Result<Self> {
        let mut fleet = Self {
            children: Vec::new(),
            failed: Arc::default(),
            next: 0,
        };
        for _ in 0..size {
            let child = fleet.spawn(task)?;
            fleet.children.push(child);
        }
        Ok(fleet)
    }

    /// Kills one process with SIGKILL, whatever it is doing, and starts another.
    pub(crate) fn replace_one(&mut self, task: &Task) -> io::Result<()> {
        let index = self.next % self.children.len();
        self.next += 1;
        self.children[index].start_kill()?;
        self.children[index] = self.spawn(task)?;
        Ok(())
    }

    /// How many requests failed since this was last asked.
    pub(crate) fn take_failed(&self) -> u64 {
        self.failed.swap(0, Relaxed)
    }

    /// Waits until all have done their work.
    pub(crate) async fn ended(&mut self) {
        for child in &mut self.children {
            if !child.wait().await.is_ok_and(|status| status.success()) {
                self.failed.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.children.iter_mut().try_for_each(Child::start_kill)
    }

    fn spawn(&self, task: &Task) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        task.hand_to(&mut command);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        if let Some(output) = child.stdout.take() {
            tokio::spawn(read(output, Arc::clone(&self.failed)));
        }
        Ok(child)
    }
}

/// Each line tells of a request that failed.
async fn read(output: ChildStdout, failed: Arc<AtomicU64>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        eprintln!("{line}");
        failed.fetch_add(1, Relaxed);
    }
}
