//! The bootstrap admin key: the operator's, or one that the first start makes.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::Secret;

const FILE_NAME: &str = "admin.key";
const SECRET_BYTES: usize = 32;

/// The key in force, and the file it stands in where the service keeps it.
#[derive(Debug)]
pub struct AdminKey {
    pub key: Secret,
    pub file: Option<PathBuf>,
    made_now: bool,
}

#[derive(Debug, thiserror::Error)]
pub enum AdminKeyError {
    #[error("cannot read the admin key in {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot write the admin key to {path}")]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the admin key in {path} is shorter than 32 characters")]
    Short { path: PathBuf },
    #[error("the system gives no random bytes: {0}")]
    Random(getrandom::Error),
}

impl AdminKey {
    /// Where the key is, for the log.
    pub fn describe(&self) -> String {
        match (&self.file, self.made_now) {
            (Some(path), true) => format!("made just now, in {}", path.display()),
            (Some(path), false) => format!("in {}", path.display()),
            (None, _) => "as set by QUOTAD_ADMIN_KEY".to_owned(),
        }
    }
}

/// The operator's key, else the one in `data_dir`, else a new one that is written there for its owner alone to read.
pub fn obtain(configured: Option<&Secret>, data_dir: &Path) -> Result<AdminKey, AdminKeyError> {
    if let Some(key) = configured {
        return Ok(AdminKey { key: key.clone(), file: None, made_now: false });
    }
    let path = data_dir.join(FILE_NAME);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let key = text.trim();
            if key.chars().count() < 32 {
                return Err(AdminKeyError::Short { path });
            }
            Ok(AdminKey { key: Secret::new(key), file: Some(path), made_now: false })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let key = new_key()?;
            write_private(&path, &key).map_err(|source| AdminKeyError::Write { path: path.clone(), source })?;
            Ok(AdminKey { key: Secret::new(&key), file: Some(path), made_now: true })
        }
        Err(source) => Err(AdminKeyError::Read { path, source }),
    }
}

fn new_key() -> Result<String, AdminKeyError> {
    let mut secret = [0_u8; SECRET_BYTES];
    getrandom::fill(&mut secret).map_err(AdminKeyError::Random)?;
    Ok(format!("qd_admin_{}", hex::encode(secret)))
}

fn write_private(path: &Path, key: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path)?;
    writeln!(file, "{key}")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_start_makes_a_key_for_its_owner_alone_and_the_next_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let first = obtain(None, folder.path()).unwrap();
        let second = obtain(None, folder.path()).unwrap();
        assert_eq!(first.key.expose(), second.key.expose());
        assert!(first.made_now && !second.made_now);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = std::fs::metadata(folder.path().join(FILE_NAME)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
    }

    #[test]
    fn a_file_that_was_cut_short_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), "short\n").unwrap();
        assert!(matches!(obtain(None, folder.path()), Err(AdminKeyError::Short { .. })));
    }
}
