//! Label files: the files that an entry of `registration.files` names, and their checks before they are opened.
//!
//! An entry is a path or a pattern, relative to the configuration file; only the last part of a path may be a pattern.
//! Paths are kept as written: links and directories are resolved anew each time.

use std::collections::HashSet;
use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _};
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::fault::Fault;
use super::row_faults::UTF8_HINT;
use super::rows::{MAX_ROW_BYTES, PERMISSIONS, RowKind};
use super::table::At;

/// The largest label file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;

/// An entry of `registration.files`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FilesEntry {
    /// The configuration file and the key of the entry.
    place: String,
    key: String,
    /// Text of the entry, as written.
    text: String,
    /// Absolute path of the directory.
    pub(super) directory: PathBuf,
    /// A name, or a pattern of names.
    pub(super) name: String,
}

impl FilesEntry {
    /// Returns the entry at `at`, unless it is wrong.
    pub(super) fn of(at: &At<'_>, text: &str) -> Option<Self> {
        let path = at.context.directory.join(text);
        // This fails if the working directory is gone. A relative path then has no meaning.
        let path = std::path::absolute(&path).unwrap_or(path);
        let (name, directory) = (path.file_name().and_then(|name| name.to_str()), path.parent());
        let (problem, hint) = match (name, directory) {
            _ if Path::new(text).parent().and_then(Path::to_str).is_some_and(is_pattern) => {
                ("has * or ? before the last part", "only the last part of a path may be a pattern")
            }
            (Some(name), Some(directory)) => {
                let (place, key, text) = (at.place.to_owned(), at.name(), text.to_owned());
                return Some(Self {
                    place,
                    key,
                    text,
                    directory: directory.to_owned(),
                    name: name.to_owned(),
                });
            }
            _ => ("does not name a file", "write a path such as \"labels.d/*\" or \"labels.csv\""),
        };
        at.fault_of(text, problem, hint);
        None
    }

    fn path(&self) -> PathBuf {
        self.directory.join(&self.name)
    }
}

fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?'])
}

/// A stamp that changes when the file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStamp {
    device: u64,
    pub inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns the time of the last change in milliseconds since 1970, from the file system.
    pub fn changed_ms(self) -> i64 {
        let (seconds, nanoseconds) = self.modified.max(self.changed);
        seconds.saturating_mul(1_000).saturating_add(nanoseconds / 1_000_000)
    }
}

/// A file that may be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundFile {
    /// Absolute, with links unresolved.
    pub path: PathBuf,
    pub kind: RowKind,
    pub stamp: FileStamp,
    /// It is still being written, so its last line is read only if it has an end.
    pub growing: bool,
}

impl FoundFile {
    pub(super) fn place(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns the file of that path now, if it may still be read.
    pub(super) fn again(path: &Path) -> Option<Self> {
        Self::at(path).ok().flatten()
    }

    /// Returns the file, or the reason why it is left out. `None`: it does not exist, or is a directory.
    fn at(path: &Path) -> Result<Option<Self>, Fault> {
        let place = path.display().to_string();
        let left_out = |problem: String, hint: &str| Err(Fault::new(&place, "", problem).hint(hint));
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => return Ok(None),
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let link = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
                if !link {
                    return Ok(None);
                }
                return left_out(
                    "is a link to a file that does not exist".to_owned(),
                    "repair or remove the link",
                );
            }
            Err(error) => return left_out(format!("cannot be read: {error}"), PERMISSIONS),
        };
        if let Some(what) = special(metadata.file_type()) {
            return left_out(format!("is {what}, not a regular file"), "only regular files are read");
        }
        let Some(kind) = RowKind::of_path(path) else {
            let problem = "has an unknown ending";
            return left_out(problem.to_owned(), "label files end in .txt, .csv or .jsonl");
        };
        if metadata.len() > MAX_FILE_BYTES {
            return left_out(too_large(metadata.len()), "split it into smaller files");
        }
        Ok(Some(Self { path: path.to_owned(), kind, stamp: FileStamp::of(&metadata), growing: false }))
    }
}

fn special(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_fifo() => Some("a FIFO"),
        kind if kind.is_socket() => Some("a socket"),
        kind if kind.is_char_device() || kind.is_block_device() => Some("a device"),
        _ => Some("a special file"),
    }
}

fn too_large(bytes: u64) -> String {
    format!("has {} MiB: at most {} MiB are read", bytes / (1024 * 1024), MAX_FILE_BYTES / (1024 * 1024))
}

/// A file that is not read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// A file, or a pattern whose directory cannot be listed.
    pub path: PathBuf,
    pub fault: Fault,
}

/// The files that the entries name at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileScan {
    /// In the order of the entries, and of names.
    pub files: Vec<FoundFile>,
    pub left_out: Vec<LeftOut>,
    /// Patterns that match no file.
    pub unmatched: Vec<Fault>,
}

impl FileScan {
    pub(super) fn at(entries: &[FilesEntry]) -> Self {
        let (mut scan, mut seen) = (Self::default(), HashSet::new());
        for entry in entries {
            for path in scan.paths_of(entry) {
                if !seen.insert(path.clone()) {
                    continue;
                }
                match FoundFile::at(&path) {
                    Ok(Some(file)) => scan.files.push(file),
                    Ok(None) => {}
                    Err(fault) => scan.left_out.push(LeftOut { path, fault }),
                }
            }
        }
        scan
    }

    /// Returns the paths that an entry names, in the order of their names.
    fn paths_of(&mut self, entry: &FilesEntry) -> Vec<PathBuf> {
        let path = entry.path();
        let left_out = |problem: String, hint: String| {
            let fault = Fault::new(&entry.place, &entry.key, problem).value(&entry.text).hint(hint);
            LeftOut { path: path.clone(), fault }
        };
        if !is_pattern(&entry.name) {
            match std::fs::symlink_metadata(&path) {
                Err(error) => self.left_out.push(left_out(
                    format!("cannot be read: {error}"),
                    format!("resolved to {}; relative paths start at the configuration file", path.display()),
                )),
                Ok(_) if path.is_dir() => self.left_out.push(left_out(
                    "is a directory".to_owned(),
                    format!(
                        "to read all files of the directory, write \"{}/*\"",
                        entry.text.trim_end_matches('/')
                    ),
                )),
                Ok(_) => return vec![path],
            }
            return Vec::new();
        }
        let mut paths = Vec::new();
        match std::fs::read_dir(&entry.directory) {
            Ok(listed) => {
                for found in listed.filter_map(Result::ok) {
                    let is_directory = found.file_type().is_ok_and(|kind| kind.is_dir());
                    // Bytes of a name that are not UTF-8 match as replacement characters.
                    if !is_directory && fits(&entry.name, &found.file_name().to_string_lossy()) {
                        paths.push(found.path());
                    }
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                let problem = format!("cannot be listed: {error}");
                self.left_out.push(left_out(
                    problem,
                    "the user that runs trackpost must be able to read the directory".to_owned(),
                ));
                return paths;
            }
        }
        paths.sort();
        if paths.is_empty() {
            let fault = Fault::new(&entry.place, &entry.key, "does not match a file yet").value(&entry.text);
            let hint = format!("the pattern is searched in {}", entry.directory.display());
            self.unmatched.push(fault.hint(hint));
        }
        paths
    }
}

/// Opens a file that was found, if it is still a regular file that may be text.
pub(super) fn open(file: &FoundFile) -> Result<impl std::io::BufRead, Fault> {
    let place = file.place();
    let cannot =
        |error: std::io::Error| Fault::new(&place, "", format!("cannot be read: {error}")).hint(PERMISSIONS);
    // A FIFO may have taken its place: opening it must not block.
    let opened: File = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
        .open(&file.path)
        .map_err(cannot)?;
    if !opened.metadata().map_err(cannot)?.is_file() {
        return Err(Fault::new(&place, "", "is not a regular file").hint("only regular files are read"));
    }
    let bytes = if file.growing { complete_lines(&opened).map_err(cannot)? } else { MAX_FILE_BYTES };
    let mut reader = BufReader::with_capacity(1 << 16, opened.take(bytes.min(MAX_FILE_BYTES)));
    let start = reader.fill_buf().map_err(cannot)?;
    let zeros = start.iter().filter(|byte| **byte == 0).count();
    if start.starts_with(&[0xff, 0xfe]) || start.starts_with(&[0xfe, 0xff]) || zeros * 4 > start.len() {
        let fault = Fault::new(&place, "", "is not UTF-8 text, but seems to be UTF-16");
        return Err(fault.hint(UTF8_HINT));
    }
    Ok(reader)
}

/// Returns the number of bytes up to the end of the last complete line.
fn complete_lines(file: &File) -> std::io::Result<u64> {
    let length = file.metadata()?.len();
    let start = length.saturating_sub(MAX_ROW_BYTES as u64);
    let mut tail = vec![0; MAX_ROW_BYTES];
    let read = file.read_at(&mut tail, start)?;
    let end = tail[..read].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at as u64 + 1);
    Ok(start + end)
}

/// Whether a file name fits a pattern. Only `*` and `?` are special. As in a shell, they do not match the dot of a
/// hidden file.
pub fn fits(pattern: &str, name: &str) -> bool {
    let mut escaped = pattern.replace('[', "[[]");
    while escaped.contains("**") {
        escaped = escaped.replace("**", "*");
    }
    let hidden = name.starts_with('.') && !pattern.starts_with('.');
    !hidden && glob::Pattern::new(&escaped).is_ok_and(|pattern| pattern.matches(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, expected) in [
            ("*", "a.txt", true),
            ("*", ".a.txt.swp", false),
            (".*", ".a", true),
            ("*.txt", "a.txt", true),
            ("*.txt", "a.txt~", false),
            ("*.txt", ".txt", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("label?.csv", "label1.csv", true),
            ("label?.csv", "label.csv", false),
            ("?", "é", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a**.txt", "ab.txt", true),
            ("**", ".a", false),
            ("a[1].txt", "a[1].txt", true),
            ("a[1].txt", "a1.txt", false),
            ("[a-z]*.csv", "[a-z]-1.csv", true),
            ("a].txt", "a].txt", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
