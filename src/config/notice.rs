//! What is wrong with a configuration, or deserves a look, as one line: where, which key, what, and the remedy.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where a value was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The default: none was given.
    Default,
    /// A line of a file; 0 where it is not known.
    File(Arc<PathBuf>, usize),
    /// A variable of the environment.
    Variable(String),
    /// A request of the admin page.
    Request,
}

/// One fault or one warning. It never holds a secret, and it displays as a single line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    pub(super) source: Source,
    pub(super) key: Option<String>,
    pub(super) problem: String,
    pub(super) remedy: String,
}

impl Notice {
    pub(super) fn new(source: Source, problem: impl Into<String>, remedy: impl Into<String>) -> Notice {
        Notice { source, key: None, problem: problem.into(), remedy: remedy.into() }
    }

    pub(super) fn of_file(path: &Path, line: usize, problem: String, remedy: &str) -> Notice {
        Notice::new(Source::File(Arc::new(path.to_path_buf()), line), problem, remedy)
    }

    pub(super) fn about(mut self, key: &str) -> Notice {
        self.key = Some(key.to_owned());
        self
    }

    /// The key that it is about, if it is about one.
    #[must_use]
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            Source::File(path, 0) => write!(f, "{}: ", path.display())?,
            Source::File(path, line) => write!(f, "{}:{line}: ", path.display())?,
            Source::Variable(name) => write!(f, "{name}: ")?,
            Source::Default | Source::Request => {}
        }
        if let Some(key) = &self.key {
            write!(f, "{key} ")?;
        }
        write!(f, "{}; {}", self.problem, self.remedy)
    }
}

/// Everything that is wrong with a configuration, at least one [`Notice`]; displays one a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Faults(pub(super) Vec<Notice>);

impl Faults {
    /// The faults, in the order in which they were found.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.0
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, notice) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{notice}")?;
        }
        Ok(())
    }
}

impl Error for Faults {}
