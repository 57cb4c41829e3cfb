//! Compiles the contract: the `.proto` files become the descriptor set, the messages, clients and servers, the checks
//! of incoming messages, and the tables of who may call what and how often. Needs no compiler but this one.

#[path = "build/contract.rs"]
mod contract;
#[path = "build/examples.rs"]
mod examples;
#[path = "build/inputs.rs"]
mod inputs;
#[path = "build/names.rs"]
mod names;
#[path = "src/placeholders.rs"]
mod placeholders;
#[path = "build/policy.rs"]
mod policy;
#[path = "build/rate.rs"]
mod rate;
#[path = "build/rpc.rs"]
mod rpc;
#[path = "build/validation.rs"]
mod validation;

use std::path::{Path, PathBuf};
use std::{env, fs};

use anyhow::Context as _;

use crate::contract::Contract;

/// What a change of makes this program run again.
const SOURCES: [&str; 7] =
    ["build.rs", "build", "parlor", "google", "buf", "testdata", "src/placeholders.rs"];

fn main() -> anyhow::Result<()> {
    rerun_if_changed(&SOURCES);
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let contract = Contract::compile(&root, "parlor")?;
    write(&out, "descriptors.bin", &contract.encoded)?;
    write(&out, "validation.rs", validation::generate(&contract.pool)?)?;
    write(&out, "inputs.rs", inputs::generate(&contract.pool))?;
    write(&out, "policy.rs", policy::generate(&contract.pool)?)?;
    write(&out, "rate.rs", rate::generate(&contract.pool)?)?;
    write(&out, "rpc.rs", rpc::generate(&contract.pool)?)?;
    tonic_prost_build::configure()
        .codec_path("crate::codec::Codec")
        .compile_fds(contract.files)
        .context("cannot generate messages, clients and servers")?;

    // One message per kind of rule, for the tests of the checks: in no descriptor set and in no program.
    let rules = Contract::compile(&root, "testdata")?;
    write(&out, "testdata_validation.rs", validation::generate(&rules.pool)?)?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .compile_fds(rules.files)
        .context("cannot generate the messages of the tests")
}

fn write(out: &Path, name: &str, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    fs::write(out.join(name), content).with_context(|| format!("cannot write {name}"))
}

fn rerun_if_changed(paths: &[&str]) {
    for path in paths {
        println!("cargo::rerun-if-changed={path}");
    }
}
