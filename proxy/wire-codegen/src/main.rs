//! Descriptor set in, Rust out: `wire-codegen rows|messages|clients DESCRIPTORS FOLDER`.
//!
//! `rows` writes messages that are also read from JSON (unknown fields refused), `messages` plain ones, `clients` these and
//! gRPC clients.
#![forbid(unsafe_code)]

use std::error::Error;
use std::path::Path;

use prost::Message;
use prost_types::FileDescriptorSet;
use tonic_prost_build::Builder;

const ROWS: &str =
    "#[derive(serde::Serialize, serde::Deserialize)]\n#[serde(deny_unknown_fields, default)]";

fn builder(kind: &str) -> Result<Builder, String> {
    let plain = tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .emit_rerun_if_changed(false);
    match kind {
        "rows" => Ok(plain.build_client(false).message_attribute(".", ROWS)),
        "messages" => Ok(plain.build_client(false)),
        "clients" => Ok(plain.build_client(true)),
        other => Err(format!("kind {other:?}: expected rows, messages or clients")),
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [kind, descriptors, folder] = arguments.as_slice() else {
        return Err("usage: wire-codegen rows|messages|clients DESCRIPTORS FOLDER".into());
    };
    let set = FileDescriptorSet::decode(std::fs::read(descriptors)?.as_slice())?;
    builder(kind)?.out_dir(Path::new(folder)).compile_fds(set)?;
    Ok(())
}
