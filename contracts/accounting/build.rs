//! Joins the interface files that the harness calls into one source for `sol!`, which follows no imports.

use std::{env, fs, io, path::PathBuf};

const FILES: [&str; 7] = [
    "Types.sol",
    "market/IOrderBook.sol",
    "market/ILeases.sol",
    "market/IEscrow.sol",
    "registry/IPaymentTokens.sol",
    "registry/IProviderRegistry.sol",
    "stake/IStakeManager.sol",
];

fn main() -> io::Result<()> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR"));
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));
    let mut joined = String::new();
    for file in FILES {
        let path = package.join("../src").join(file);
        println!("cargo:rerun-if-changed={}", path.display());
        joined.push_str(&without_directives(&fs::read_to_string(path)?));
    }
    fs::write(
        out.join("interfaces.rs"),
        format!("alloy_sol_types::sol! {{\n{joined}}}\n"),
    )
}

/// Without licence line, pragma and imports; an import may span lines.
fn without_directives(text: &str) -> String {
    let mut kept = String::new();
    let mut inside_import = false;
    for line in text.lines() {
        inside_import |= line.starts_with("import ");
        if inside_import {
            inside_import = !line.contains(';');
        } else if !line.starts_with("pragma ") && !line.starts_with("// SPDX") {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}
