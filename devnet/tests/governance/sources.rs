//! What the Solidity sources say is `restricted`, and the ABI of what forge made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use alloy::json_abi::JsonAbi;
use eyre::{OptionExt as _, WrapErr as _, ensure};
use serde::Deserialize;

/// A contract as its source declares it.
#[derive(Debug, Default)]
struct Declared {
    concrete: bool,
    parents: Vec<String>,
    /// Functions with the modifier.
    restricted: BTreeSet<String>,
}

/// Names of the restricted functions of every contract that can be deployed, inherited ones included.
pub(crate) fn restricted(sources: &Path) -> eyre::Result<BTreeMap<String, BTreeSet<String>>> {
    let mut declared = BTreeMap::new();
    read_folder(sources, &mut declared)?;
    ensure!(!declared.is_empty(), "no contract below {}", sources.display());
    let concrete = declared.iter().filter(|(_, contract)| contract.concrete);
    let found = concrete.map(|(name, _)| {
        let mut functions = BTreeSet::new();
        inherit(name, &declared, &mut functions);
        (name.clone(), functions)
    });
    Ok(found.filter(|(_, functions)| !functions.is_empty()).collect())
}

fn inherit(name: &str, declared: &BTreeMap<String, Declared>, functions: &mut BTreeSet<String>) {
    // Parents from libraries are not among our sources; they restrict nothing by themselves.
    let Some(contract) = declared.get(name) else { return };
    functions.extend(contract.restricted.iter().cloned());
    for parent in &contract.parents {
        inherit(parent, declared, functions);
    }
}

fn read_folder(folder: &Path, declared: &mut BTreeMap<String, Declared>) -> eyre::Result<()> {
    for entry in std::fs::read_dir(folder).wrap_err_with(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            read_folder(&path, declared)?;
        } else if path.extension().is_some_and(|extension| extension == "sol") {
            read_source(&without_comments(&std::fs::read_to_string(&path)?), declared);
        }
    }
    Ok(())
}

/// Declarations begin at the start of a line, as `forge fmt` has them; functions belong to the declaration before them.
fn read_source(text: &str, declared: &mut BTreeMap<String, Declared>) {
    let mut current: Option<String> = None;
    let mut rest = text;
    while let Some(line) = rest.split_inclusive('\n').next() {
        let declaration = ["contract ", "abstract contract "]
            .iter()
            .find_map(|keyword| Some((*keyword, line.strip_prefix(keyword)?)));
        if let Some((keyword, _)) = declaration {
            let header = rest.split('{').next().unwrap_or_default();
            let header = header[keyword.len()..].replace('\n', " ");
            let (name, parents) = header.split_once(" is ").unwrap_or((&header, ""));
            let contract = Declared {
                concrete: keyword == "contract ",
                parents: parents.split(',').map(|parent| parent.trim().to_owned()).collect(),
                restricted: BTreeSet::new(),
            };
            let name = name.trim().to_owned();
            declared.insert(name.clone(), contract);
            current = Some(name);
        } else if ["interface ", "library "].iter().any(|other| line.starts_with(other)) {
            current = None;
        } else if let Some(function) = line.trim_start().strip_prefix("function ")
            && let Some(contract) = current.as_ref().and_then(|name| declared.get_mut(name))
        {
            let header = rest.split(['{', ';']).next().unwrap_or_default();
            let words = header.split(|letter: char| !(letter.is_alphanumeric() || letter == '_'));
            if words.into_iter().any(|word| word == "restricted") {
                let name = function.split('(').next().unwrap_or_default();
                // The proxy's function asks this one.
                let called = if name == "_authorizeUpgrade" {
                    "upgradeToAndCall"
                } else {
                    name
                };
                contract.restricted.insert(called.to_owned());
            }
        }
        rest = &rest[line.len()..];
    }
}

fn without_comments(text: &str) -> String {
    let mut kept = String::new();
    let mut inside_block = false;
    for line in text.lines() {
        let mut line = line;
        if inside_block {
            let Some((_, after)) = line.split_once("*/") else {
                continue;
            };
            (line, inside_block) = (after, false);
        }
        let code = line.split("//").next().unwrap_or_default();
        let code = match code.split_once("/*") {
            Some((before, after)) => {
                inside_block = !after.contains("*/");
                before
            }
            None => code,
        };
        kept.push_str(code);
        kept.push('\n');
    }
    kept
}

/// What forge made of a contract.
pub(crate) fn abi(repository: &Path, contract: &str) -> eyre::Result<JsonAbi> {
    #[derive(Deserialize)]
    struct Artifact {
        abi: JsonAbi,
    }
    let path = repository
        .join("contracts/out")
        .join(format!("{contract}.sol"))
        .join(format!("{contract}.json"));
    let text = std::fs::read(&path)
        .wrap_err_with(|| format!("{} is missing: run `forge build` in contracts", path.display()))?;
    let artifact: Artifact = serde_json::from_slice(&text).wrap_err_with(|| path.display().to_string())?;
    Ok(artifact.abi)
}

/// The signature of the only function of a name.
pub(crate) fn signature(abi: &JsonAbi, name: &str) -> eyre::Result<String> {
    let functions = abi
        .function(name)
        .ok_or_eyre(format!("the ABI has no function {name}"))?;
    ensure!(
        functions.len() == 1,
        "{name} is overloaded: the table needs each signature"
    );
    Ok(functions[0].signature())
}

#[test]
fn restricted_functions_are_found_whatever_their_headers_look_like() {
    let source = "// function hidden() restricted {\n\
        abstract contract Base {\n    function early(\n        uint8 a\n    ) external\n        restricted\n    {}\n}\n\
        contract Leaf is\n    Base,\n    Other\n{\n    /* function gone() restricted {} */\n\
        \x20   function unrestricted() external {}\n    function late() external virtual override restricted returns (uint8 id) {}\n\
        \x20   function _authorizeUpgrade(address) internal override restricted {}\n}\n\
        interface ILeaf {\n    function named() external; // restricted\n}\n";
    let mut declared = BTreeMap::new();
    read_source(&without_comments(source), &mut declared);
    let mut functions = BTreeSet::new();
    inherit("Leaf", &declared, &mut functions);
    assert_eq!(
        functions.into_iter().collect::<Vec<_>>(),
        ["early", "late", "upgradeToAndCall"]
    );
    assert!(!declared["Base"].concrete && declared["Leaf"].concrete);
}
