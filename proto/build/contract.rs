//! Reads `.proto` files into descriptors.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use prost_reflect::DescriptorPool;
use prost_reflect::prost_types::FileDescriptorSet;

/// Compiled `.proto` files, with everything they import.
pub struct Contract {
    /// The descriptors, for the code generator; without the options that are extensions.
    pub files: FileDescriptorSet,
    /// The same as bytes, with all options and with the comments.
    pub encoded: Vec<u8>,
    /// The same to look things up in, with all options.
    pub pool: DescriptorPool,
}

impl Contract {
    /// Compiles all files below a directory of the root.
    pub fn compile(root: &Path, directory: &str) -> anyhow::Result<Self> {
        let mut files = Vec::new();
        find(&root.join(directory), &mut files)?;
        // The descriptor set must not depend on the order in which a file system lists its files.
        files.sort();

        let mut compiler = protox::Compiler::new([root])?;
        compiler.include_source_info(true).include_imports(true);
        compiler.open_files(files)?;
        let encoded = compiler.encode_file_descriptor_set();
        let pool = DescriptorPool::decode(encoded.as_slice()).context("cannot read the descriptors back")?;
        Ok(Self { files: compiler.file_descriptor_set(), encoded, pool })
    }
}

fn find(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            find(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
