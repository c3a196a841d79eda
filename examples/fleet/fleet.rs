//! The processes, as their parent sees them.

use std::{
    io,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStdout, Command},
    time::sleep,
};

use crate::child::{ASKS, SERVED, Task};

/// Killed when it is dropped.
pub(crate) struct Fleet {
    children: Vec<Child>,
    messages: Arc<Messages>,
    next: usize,
}

/// The messages that the processes have sent.
struct Messages {
    failed: AtomicU64,
    served: AtomicUsize,
    /// Which process last requested a token.
    asking: AtomicUsize,
}

impl Fleet {
    pub(crate) fn start(task: &Task, size: usize) -> io::Result<Self> {
        let told = Messages {
            failed: AtomicU64::new(0),
            served: AtomicUsize::new(0),
            asking: AtomicUsize::new(usize::MAX),
        };
        let mut fleet = Self {
            children: Vec::new(),
            messages: Arc::new(told),
            next: 0,
        };
        for index in 0..size {
            let child = fleet.spawn(task, index)?;
            fleet.children.push(child);
        }
        Ok(fleet)
    }

    /// Kills one process with SIGKILL, whatever it is doing, and starts another.
    pub(crate) fn replace_one(&mut self, task: &Task) -> io::Result<()> {
        let index = self.next % self.children.len();
        self.next += 1;
        self.children[index].start_kill()?;
        self.children[index] = self.spawn(task, index)?;
        Ok(())
    }

    /// Waits until a process asks for a token, and kills it while it waits for the answer.
    pub(crate) async fn kill_leader(&mut self) -> io::Result<()> {
        loop {
            let asking = self.messages.asking.load(Relaxed);
            if let Some(child) = self.children.get_mut(asking) {
                return child.start_kill();
            }
            sleep(TICK).await;
        }
    }

    /// Waits until `count` requests have completed.
    pub(crate) async fn served(&self, count: usize) {
        while self.messages.served.load(Relaxed) < count {
            sleep(TICK).await;
        }
    }

    /// Number of failed requests since the last call.
    pub(crate) fn take_failed(&self) -> u64 {
        self.messages.failed.swap(0, Relaxed)
    }

    /// Waits until all have done their work.
    pub(crate) async fn ended(&mut self) {
        for child in &mut self.children {
            if !child.wait().await.is_ok_and(|status| status.success()) {
                self.messages.failed.fetch_add(1, Relaxed);
            }
        }
    }

    pub(crate) fn kill(&mut self) -> io::Result<()> {
        self.children.iter_mut().try_for_each(Child::start_kill)
    }

    fn spawn(&self, task: &Task, index: usize) -> io::Result<Child> {
        let mut command = Command::new(std::env::current_exe()?);
        task.hand_to(&mut command);
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        if let Some(output) = child.stdout.take() {
            tokio::spawn(read(output, index, Arc::clone(&self.messages)));
        }
        Ok(child)
    }
}

async fn read(output: ChildStdout, index: usize, told: Arc<Messages>) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.as_str() {
            ASKS => told.asking.store(index, Relaxed),
            SERVED => drop(told.served.fetch_add(1, Relaxed)),
            _ => drop(told.failed.fetch_add(1, Relaxed)),
        }
    }
}

const TICK: Duration = Duration::from_millis(1);
