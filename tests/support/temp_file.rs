//! Secrets in files.

use std::path::{Path, PathBuf};

/// A file of this process's own, gone at the end. `name` is one that no other test of the process has.
pub(crate) struct TempFile(PathBuf);

impl TempFile {
    pub(crate) fn with_content(name: &str, content: &str) -> Self {
        let name = format!("tower-m2m-{}-{name}", std::process::id());
        let file = Self(std::env::temp_dir().join(name));
        file.write(content);
        file
    }

    pub(crate) fn write(&self, content: &str) {
        std::fs::write(&self.0, content).unwrap();
    }

    /// Puts `content` in the file's place, as those do who replace it in one step.
    pub(crate) fn replace(&self, content: &str) {
        let new = self.0.with_extension("new");
        std::fs::write(&new, content).unwrap();
        std::fs::rename(new, &self.0).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}
