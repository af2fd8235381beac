//! The state folder: a few small files that let a restarted proxy be who it was and enforce what it enforced.
//!
//! Each is written whole or not at all (write, fsync, rename, fsync of the folder), readable by its owner only. Whoever
//! reads one verifies what is in it; nothing is believed because it lies here.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::PathBuf;

use crate::limits;

const OTHERS: u32 = 0o077;

/// The folder.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
}

impl StateDir {
    /// Makes the folder (0700) if it isn't there.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Replaces a file.
    pub fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.path.join(format!(".{name}.new"));
        match fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }

    /// Removes a file, which needs no room on the disk. It may be gone already.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => File::open(&self.path)?.sync_all(),
        }
    }

    /// Reads a file; none if it isn't there.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut file = match File::open(self.path.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let about = file.metadata()?;
        // FAIL-CLOSED: what others could read or write is no secret, and not ours.
        if about.permissions().mode() & OTHERS != 0 {
            return Err(io::Error::other("others may read or write it, expected mode 0600"));
        }
        if about.len() > limits::STATE_FILE_BYTES {
            return Err(io::Error::other("it is too big"));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    /// Whether there is a file of this name.
    pub fn has(&self, name: &str) -> bool {
        self.path.join(name).is_file()
    }

    /// Removes the files whose names begin so, but for one.
    pub fn remove_all_but(&self, front: &str, kept: &str) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let stale = |name: &str| name.starts_with(front) && name != kept;
            if name.to_str().is_some_and(stale) {
                fs::remove_file(self.path.join(name))?;
            }
        }
        Ok(())
    }

    /// A folder in it (0700), made if it isn't there.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.path.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(path)
    }

    /// Moves a file out of the way, so that it is there to be looked at and never read again (L4-03).
    pub fn set_aside(&self, name: &str) {
        // If even this fails the file is read, verified and refused again at the next start.
        let _ = fs::rename(self.path.join(name), self.path.join(format!("{name}.bad")));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> StateDir {
        StateDir::open(std::env::temp_dir().join(format!("policyd-state-{}", uuid::Uuid::now_v7())))
            .unwrap()
    }

    #[test]
    fn what_was_written_is_read_and_only_by_its_owner() {
        let state = folder();
        assert_eq!(state.read("svid").unwrap(), None);
        state.write("svid", b"one").unwrap();
        state.write("svid", b"two").unwrap();
        assert_eq!(state.read("svid").unwrap().as_deref(), Some(&b"two"[..]));
        let mode = fs::metadata(state.path.join("svid")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::remove_dir_all(&state.path).unwrap();
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let state = folder();
        state.write("svid", b"one").unwrap();
        fs::set_permissions(state.path.join("svid"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(state.read("svid").is_err());
        state.set_aside("svid");
        assert_eq!(state.read("svid").unwrap(), None);
        state.write("svid", b"two").unwrap();
        state.remove("svid").unwrap();
        state.remove("svid").unwrap();
        assert_eq!(state.read("svid").unwrap(), None);
        fs::remove_dir_all(&state.path).unwrap();
    }
}
