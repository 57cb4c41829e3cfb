//! A ZIP file (APPNOTE 6.3) that is written in one pass and read while it grows.

use std::collections::HashSet;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use zip::write::{SimpleFileOptions, StreamWriter, ZipWriter};

/// The longest name of an entry, in bytes. No file system takes a longer file name.
const MAX_NAME: usize = 255;

/// The longest ending of a name that is kept when the name is cut, in bytes, with its dot.
const MAX_ENDING: usize = 32;

/// A ZIP file that is being written.
pub(super) struct Archive {
    writer: ZipWriter<StreamWriter<Spool>>,
    spool: Spool,
    /// The file that is being written.
    path: Option<String>,
    /// The names of the entries, in lower case: some file systems do not distinguish case.
    names: HashSet<String>,
}

impl Default for Archive {
    fn default() -> Self {
        let spool = Spool::default();
        let writer = ZipWriter::new_stream(spool.clone());
        Self { writer, spool, path: None, names: HashSet::new() }
    }
}

impl Archive {
    /// Adds bytes to a file; a path that differs from the last one begins another file.
    pub(super) fn add(&mut self, path: &str, data: &[u8]) -> io::Result<()> {
        if self.path.as_deref() != Some(path) {
            // The size is not known beforehand.
            let options = SimpleFileOptions::default().large_file(true);
            let name = self.unique(&safe(path));
            self.writer.start_file(name, options)?;
            self.path = Some(path.to_owned());
        }
        self.writer.write_all(data)
    }

    /// Returns the name of an entry: that of its path, cut to the length that file systems take, and numbered when
    /// another entry has it.
    fn unique(&mut self, path: &str) -> String {
        let numbers = std::iter::once(String::new()).chain((2_u64..).map(|number| format!("-{number}")));
        let mut names = numbers.map(|number| cut(path, &number));
        let free = names.find(|name| self.names.insert(name.to_lowercase()));
        free.unwrap_or_else(|| path.to_owned())
    }

    /// Returns the bytes of the archive that have been written and not yet taken.
    pub(super) fn take(&self) -> Bytes {
        self.spool.take()
    }

    /// Writes the directory, without which the file is no valid archive, and returns the last bytes.
    pub(super) fn finish(self) -> io::Result<Bytes> {
        self.writer.finish()?;
        Ok(self.spool.take())
    }
}

/// Returns a path that stays inside the folder into which it is unpacked, on every system.
fn safe(path: &str) -> String {
    let safe_part = |part: &str| {
        let part: String =
            part.chars().map(|c| if c.is_control() || r#"\:*?"<>|"#.contains(c) { '_' } else { c }).collect();
        if part.chars().all(|c| c == '.') { "_".repeat(part.len().max(1)) } else { part }
    };
    path.split('/').map(safe_part).collect::<Vec<_>>().join("/")
}

/// Returns a path of at most [`MAX_NAME`] bytes: the text before the ending of its last part is cut at a character
/// boundary, and gets this number.
fn cut(path: &str, number: &str) -> String {
    let start = path.rfind('/').map_or(0, |slash| slash + 1);
    let (folder, name) = path.split_at(start);
    let dot = name.rfind('.').filter(|dot| *dot > 0 && name.len() - dot <= MAX_ENDING);
    let (stem, ending) = name.split_at(dot.unwrap_or(name.len()));
    let room = MAX_NAME.saturating_sub(folder.len() + number.len() + ending.len());
    format!("{folder}{}{number}{ending}", &stem[..stem.floor_char_boundary(room)])
}

/// The buffer in which the writer's bytes stay until they are taken.
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
    fn a_long_name_is_cut_between_characters_and_keeps_its_ending() {
        let long = format!("messaging/files/01937b6e-{}.png", "😀".repeat(250));
        let name = cut(&long, "");
        assert!((MAX_NAME - 3..=MAX_NAME).contains(&name.len()), "{}", name.len());
        assert!(name.starts_with("messaging/files/01937b6e-😀") && name.ends_with("😀.png"), "{name}");
        assert_eq!(cut("a/b.json", ""), "a/b.json");
        assert_eq!(cut("a/b.json", "-2"), "a/b-2.json");
        let (hidden, endless) = (format!(".{}", "x".repeat(300)), format!("a.{}", "x".repeat(300)));
        for name in [hidden, endless] {
            assert_eq!(cut(&name, "-2"), format!("{}-2", &name[..MAX_NAME - 2]));
        }
    }

    #[test]
    fn every_file_has_a_name_of_its_own_and_can_be_unpacked() {
        let long = |last: &str| format!("files/{}{last}.png", "ä".repeat(200));
        let paths =
            [long("1"), long("2"), "files/a:b".to_owned(), "files/a?b".to_owned(), "files/A_B".to_owned()];
        let mut archive = Archive::default();
        for path in &paths {
            archive.add(path, path.as_bytes()).expect("room");
        }
        let bytes = archive.finish().expect("an end");
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).expect("an archive");
        assert_eq!(archive.len(), paths.len());
        let folder = tempfile::tempdir().expect("a folder");
        for (place, path) in paths.iter().enumerate() {
            let mut entry = archive.by_index(place).expect("a file");
            let name = entry.name().expect("UTF-8").into_owned();
            assert!(name.len() <= MAX_NAME, "{name}");
            let to = folder.path().join(&name);
            assert!(!to.exists(), "{name} is there twice");
            std::fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
            let mut file = std::fs::File::create(&to).expect("a name that file systems take");
            io::copy(&mut entry, &mut file).expect("bytes");
            assert_eq!(std::fs::read_to_string(&to).expect("text"), *path);
        }
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
