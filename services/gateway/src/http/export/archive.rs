//! A ZIP file (APPNOTE 6.3) that is written in one go and taken away as it grows.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};

/// A ZIP file on its way.
pub(super) struct Archive {
    writer: ZipWriter<StreamWriter<Spool>>,
    spool: Spool,
    /// The file that is being written.
    path: Option<String>,
}

impl Default for Archive {
    fn default() -> Self {
        let spool = Spool::default();
        Self { writer: ZipWriter::new_stream(spool.clone()), spool, path: None }
    }
}

impl Archive {
    /// Adds bytes to a file; a path that differs from the last one begins another file.
    pub(super) fn add(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        if self.path.as_deref() != Some(path) {
            // How large it will be is not known beforehand.
            let options = SimpleFileOptions::default().large_file(true);
            self.writer.start_file(safe(path), options)?;
            self.path = Some(path.to_owned());
        }
        self.writer.write_all(data)
    }

    /// The bytes of the archive that are there and have not been taken.
    pub(super) fn take(&self) -> Bytes {
        self.spool.take()
    }

    /// Writes the directory, without which it is no archive, and gives the last bytes.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        self.writer.finish()?;
        Ok(self.spool.take())
    }
}

/// A path that stays inside of the folder in which somebody unpacks it, on every system.
fn safe(path: &str) -> String {
    let safe_part = |part: &str| {
        let part: String =
            part.chars().map(|c| if c.is_control() || r#"\:*?"<>|"#.contains(c) { '_' } else { c }).collect();
        if part.chars().all(|c| c == '.') { "_".repeat(part.len().max(1)) } else { part }
    };
    path.split('/').map(safe_part).collect::<Vec<_>>().join("/")
}

/// Where the writer leaves its bytes until they are taken.
#[derive(Clone, Default)]
struct Spool(Arc<Mutex<Vec<u8>>>);

impl Spool {
    fn take(&self) -> Bytes {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into()
    }
}

impl Write for Spool {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read as _};

    use super::*;

    #[test]
    fn what_was_put_in_comes_out() {
        let mut archive = Archive::default();
        let mut bytes = Vec::new();
        for (path, data) in [("a/b.json", "{\"x\":"), ("a/b.json", "1}"), ("c.ndjson", ""), ("d", "two")] {
            archive.add(path, data.as_bytes()).expect("room");
            bytes.extend(archive.take());
        }
        assert!(zip::ZipArchive::new(Cursor::new(bytes.clone())).is_err(), "it is not finished");
        bytes.extend(archive.finish().expect("an end"));

        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
        let mut read = |path: &str| {
            let mut text = String::new();
            archive.by_name(path).expect("a file").read_to_string(&mut text).expect("text");
            text
        };
        assert_eq!([read("a/b.json"), read("c.ndjson"), read("d")], [r#"{"x":1}"#, "", "two"]);
    }

    #[test]
    fn nothing_is_unpacked_anywhere_else() {
        assert_eq!(safe("messaging/files/1-cat.png"), "messaging/files/1-cat.png");
        assert_eq!(safe("/etc/../a\\..\\b"), "_/etc/__/a_.._b");
        assert_eq!(safe("c:\u{0}x//y"), "c__x/_/y");
    }

    #[test]
    fn large_files_are_not_kept() {
        let mut archive = Archive::default();
        let (piece, mut taken, mut longest) = (vec![0xA5; 64 * 1024], 0, 0);
        for _ in 0..64 {
            archive.add("large", &piece).expect("room");
            let bytes = archive.take();
            taken += bytes.len();
            longest = longest.max(bytes.len());
        }
        assert!(taken > 0 && longest <= 128 * 1024, "{longest} bytes at a time");
    }
}
