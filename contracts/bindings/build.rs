//! Joins the Solidity interface files into one source for `sol!`, which follows no imports, and lists the custom errors
//! they declare. Building needs no Solidity compiler.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

fn main() -> io::Result<()> {
    // Asked for when it runs: clones that share a target folder share this program.
    let package =
        PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR for build scripts"));
    let sources = package.join("../src");
    println!("cargo:rerun-if-changed={}", sources.display());
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR for build scripts"));

    let mut interfaces = Vec::new();
    find_interfaces(&sources, &mut interfaces)?;
    interfaces.sort();
    assert!(
        !interfaces.is_empty(),
        "no interface file (I*.sol) below {}",
        sources.display()
    );

    let mut joined = without_directives(&fs::read_to_string(sources.join("Types.sol"))?);
    let mut errors = String::from("&[\n");
    for path in &interfaces {
        let text = fs::read_to_string(path)?;
        let contract = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .expect("interface file names are ASCII");
        joined.push_str(&without_directives(&text));
        push_errors(contract, &text, &mut errors);
    }
    errors.push_str("]\n");

    let expansion = format!(
        "alloy::sol! {{\n#![sol(rpc, all_derives, extra_derives(serde::Serialize, serde::Deserialize))]\n{joined}}}\n"
    );
    fs::write(out.join("interfaces.rs"), expansion)?;
    fs::write(out.join("errors.rs"), errors)
}

/// An interface file is one whose name starts with `I` and another capital letter.
fn find_interfaces(folder: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            find_interfaces(&path, found)?;
            continue;
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let mut letters = name.chars();
        if letters.next() == Some('I') && letters.next().is_some_and(char::is_uppercase) && name.ends_with(".sol") {
            found.push(path);
        }
    }
    Ok(())
}

/// Without licence line, pragma and imports; an import may span lines.
fn without_directives(text: &str) -> String {
    let mut kept = String::new();
    let mut inside_import = false;
    for line in text.lines() {
        inside_import |= line.starts_with("import ");
        if inside_import {
            inside_import = !line.contains(';');
            continue;
        }
        if line.starts_with("pragma ") || line.starts_with("// SPDX") {
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// One entry per `error Name(type operand, ...);`, in the form `src/revert.rs` reads.
fn push_errors(contract: &str, text: &str, errors: &mut String) {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" ");
    for statement in code.split(['{', '}', ';']) {
        let Some(declaration) = statement.trim().strip_prefix("error ") else {
            continue;
        };
        let (name, operands) = declaration
            .split_once('(')
            .expect("an error declaration has operands in parentheses");
        let operands = operands
            .trim_end()
            .strip_suffix(')')
            .expect("an error declaration ends with a parenthesis");
        let name = name.trim();
        let operands: String = operands
            .split(',')
            .map(|operand| operand.split_whitespace().collect::<Vec<_>>())
            .filter(|words| !words.is_empty())
            .map(|words| {
                assert!(
                    words.len() == 2,
                    "operand without a name in error {contract}.{name}: every operand is named"
                );
                format!("({:?}, {:?}), ", words[0], words[1])
            })
            .collect();
        errors.push_str(&format!(
            "    ErrorShape {{ selector: <crate::{contract}::{name} as SolError>::SELECTOR, name: {name:?}, operands: &[{operands}] }},\n"
        ));
    }
}
