//! Claim files: the JSON that EigenLayer's tools print for an earner and a root, and back.
//!
//! Whole numbers come as numbers or as decimal text, and as numbers they exceed what other JSON readers keep exactly; bytes are
//! hexadecimal with or without `0x`.

use std::path::Path;

use alloy::primitives::{Address, B256, Bytes, U256, hex};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Claim;
use super::IRewardsCoordinator::{EarnerTreeMerkleLeaf, TokenTreeMerkleLeaf};

/// No claim is larger: a proof has at most 32 words.
const LARGEST_FILE: u64 = 1 << 20;
const LONGEST_PROOF: usize = 32 * 32;

/// Why a claim file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimFileError {
    #[error("claim file {path} cannot be read")]
    Read { path: String, source: std::io::Error },
    #[error("claim file {path} is larger than {LARGEST_FILE} bytes: it is no claim")]
    TooLarge { path: String },
    #[error(
        "claim file {path} is not a claim: {problem} (expected is the JSON of EigenLayer's tools: rootIndex, earnerIndex, \
         earnerTreeProof, earnerLeaf, tokenIndices, tokenTreeProofs, tokenLeaves)"
    )]
    Malformed { path: String, problem: String },
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    root_index: Whole,
    earner_index: Whole,
    earner_tree_proof: String,
    earner_leaf: EarnerLeaf,
    #[serde(alias = "leafIndices")]
    token_indices: Vec<Whole>,
    token_tree_proofs: Vec<String>,
    token_leaves: Vec<TokenLeaf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct EarnerLeaf {
    earner: Address,
    earner_token_root: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenLeaf {
    token: Address,
    cumulative_earnings: Whole,
}

/// A whole number, as a number or as text.
#[derive(Deserialize)]
#[serde(transparent)]
struct Whole(Value);

impl Whole {
    fn value(&self, field: &str) -> Result<U256, String> {
        let text = match &self.0 {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits
            .then(|| U256::from_str_radix(&text, 10).ok())
            .flatten()
            .ok_or_else(|| format!("{field} is {}, not a whole number", self.0))
    }

    fn index(&self, field: &str) -> Result<u32, String> {
        let value = self.value(field)?;
        u32::try_from(value).map_err(|_| format!("{field} is {value}, which is no index"))
    }
}

/// Reads a claim file.
pub fn load(path: &Path) -> Result<Claim, ClaimFileError> {
    let name = path.display().to_string();
    let read = |source| ClaimFileError::Read {
        path: name.clone(),
        source,
    };
    if std::fs::metadata(path).map_err(read)?.len() > LARGEST_FILE {
        return Err(ClaimFileError::TooLarge { path: name });
    }
    let text = std::fs::read_to_string(path).map_err(read)?;
    parse(&text).map_err(|problem| ClaimFileError::Malformed { path: name, problem })
}

/// The claim in the text of a claim file.
fn parse(text: &str) -> Result<Claim, String> {
    let file: File = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let count = file.token_leaves.len();
    if count == 0 {
        return Err("tokenLeaves is empty: it claims nothing".to_owned());
    }
    if file.token_indices.len() != count || file.token_tree_proofs.len() != count {
        return Err(format!(
            "tokenIndices ({}), tokenTreeProofs ({}) and tokenLeaves ({count}) differ in length",
            file.token_indices.len(),
            file.token_tree_proofs.len()
        ));
    }
    let root = bytes(&file.earner_leaf.earner_token_root, "earnerLeaf.earnerTokenRoot")?;
    let indices = file.token_indices.iter().map(|index| index.index("tokenIndices"));
    let proofs = file.token_tree_proofs.iter().map(|text| proof(text, "tokenTreeProofs"));
    let leaves = file.token_leaves.iter().map(|leaf| {
        Ok(TokenTreeMerkleLeaf {
            token: leaf.token,
            cumulativeEarnings: leaf.cumulative_earnings.value("cumulativeEarnings")?,
        })
    });
    Ok(Claim {
        rootIndex: file.root_index.index("rootIndex")?,
        earnerIndex: file.earner_index.index("earnerIndex")?,
        earnerTreeProof: proof(&file.earner_tree_proof, "earnerTreeProof")?,
        earnerLeaf: EarnerTreeMerkleLeaf {
            earner: file.earner_leaf.earner,
            earnerTokenRoot: B256::try_from(root.as_slice())
                .map_err(|_| format!("earnerLeaf.earnerTokenRoot has {} bytes, not 32", root.len()))?,
        },
        tokenIndices: indices.collect::<Result<_, _>>()?,
        tokenTreeProofs: proofs.collect::<Result<_, _>>()?,
        tokenLeaves: leaves.collect::<Result<_, String>>()?,
    })
}

fn bytes(text: &str, field: &str) -> Result<Vec<u8>, String> {
    hex::decode(text).map_err(|_| format!("{field} is not hexadecimal"))
}

fn proof(text: &str, field: &str) -> Result<Bytes, String> {
    let proof = bytes(text, field)?;
    match proof.len() {
        length if length > LONGEST_PROOF => Err(format!("{field} has {length} bytes, more than any tree is deep")),
        length if !length.is_multiple_of(32) => Err(format!("{field} has {length} bytes, not whole words of 32")),
        _ => Ok(proof.into()),
    }
}

/// A claim against the root `root`, as EigenLayer's tools print it.
pub fn render(root: B256, claim: &Claim) -> Value {
    let leaves = claim
        .tokenLeaves
        .iter()
        .map(|leaf| json!({"token": leaf.token, "cumulativeEarnings": leaf.cumulativeEarnings.to_string()}));
    json!({
        "root": root,
        "rootIndex": claim.rootIndex,
        "earnerIndex": claim.earnerIndex,
        "earnerTreeProof": claim.earnerTreeProof,
        "earnerLeaf": {
            "earner": claim.earnerLeaf.earner,
            "earnerTokenRoot": claim.earnerLeaf.earnerTokenRoot,
        },
        "tokenIndices": claim.tokenIndices,
        "tokenTreeProofs": claim.tokenTreeProofs,
        "tokenLeaves": leaves.collect::<Vec<_>>(),
        "tokenTreeProofsNum": claim.tokenTreeProofs.len(),
        "tokenLeavesNum": claim.tokenLeaves.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> Claim {
        Claim {
            rootIndex: 7,
            earnerIndex: 3,
            earnerTreeProof: Bytes::from(vec![1; 64]),
            earnerLeaf: EarnerTreeMerkleLeaf {
                earner: Address::repeat_byte(5),
                earnerTokenRoot: B256::repeat_byte(6),
            },
            tokenIndices: vec![0],
            tokenTreeProofs: vec![Bytes::new()],
            tokenLeaves: vec![TokenTreeMerkleLeaf {
                token: Address::repeat_byte(7),
                cumulativeEarnings: U256::from(10).pow(U256::from(30)),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let text = render(B256::repeat_byte(9), &claim()).to_string();
        assert_eq!(parse(&text).expect("our own"), claim());
    }

    #[test]
    fn numbers_and_hexadecimal_come_in_either_form() {
        let mut value = render(B256::ZERO, &claim());
        value["rootIndex"] = "7".into();
        value["earnerIndex"] = "3".into();
        value["earnerTreeProof"] = "01".repeat(64).into();
        // A number that a double does not hold.
        let text = value
            .to_string()
            .replace("\"1000000000000000000000000000000\"", "1000000000000000000000000000000");
        assert!(text.contains(":1000000000000000000000000000000"), "{text}");
        assert_eq!(parse(&text).expect("the other forms"), claim());
    }

    #[test]
    fn what_is_no_claim_is_refused_by_name() {
        let good = render(B256::ZERO, &claim());
        let changes: [(&str, Value, &str); 8] = [
            ("rootIndex", json!(-1), "rootIndex"),
            ("rootIndex", json!(4_294_967_296_u64), "rootIndex"),
            ("earnerTreeProof", json!("0xzz"), "earnerTreeProof"),
            ("earnerTreeProof", json!("0x0102"), "earnerTreeProof"),
            ("earnerTreeProof", json!("00".repeat(32 * 33)), "earnerTreeProof"),
            ("tokenIndices", json!([]), "differ in length"),
            ("tokenLeaves", json!([]), "claims nothing"),
            (
                "earnerLeaf",
                json!({"earner": Address::ZERO, "earnerTokenRoot": "0x01"}),
                "earnerTokenRoot",
            ),
        ];
        for (field, value, expected) in changes {
            let mut wrong = good.clone();
            wrong[field] = value;
            let problem = parse(&wrong.to_string()).expect_err(field);
            assert!(problem.contains(expected), "{problem} does not name {expected}");
        }
        assert!(parse("[]").is_err());
        let mut fraction = good.clone();
        fraction["tokenLeaves"][0]["cumulativeEarnings"] = json!(1.5);
        assert!(
            parse(&fraction.to_string())
                .expect_err("a fraction")
                .contains("cumulativeEarnings")
        );
    }

    #[test]
    fn files_are_bounded_and_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("claim.json");
        let error = load(&path).expect_err("is not there");
        assert!(error.to_string().contains("claim.json"), "{error}");
        std::fs::write(&path, vec![b' '; (1 << 20) + 1]).expect("written");
        assert!(matches!(load(&path), Err(ClaimFileError::TooLarge { .. })));
        std::fs::write(&path, render(B256::ZERO, &claim()).to_string()).expect("written");
        assert_eq!(load(&path).expect("a claim"), claim());
    }
}
