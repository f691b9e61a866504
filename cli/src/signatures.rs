//! Orders and closes that one key signs and another brings in: EIP-712 over every term, and the file that carries them.

use alloy::primitives::{Address, B256, Bytes, Signature, U256};
use alloy::providers::Provider as _;
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Eip712Domain, SolStruct};
use bindings::{CloseRequest, OrderRequest};
use eyre::{WrapErr as _, bail};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::chain::read;
use crate::dates::Date;
use crate::failure::Failure;
use crate::session::Session;

/// A file may not be larger: two lists of 64 suppliers are the most that a request holds.
const LARGEST_FILE_BYTES: u64 = 64 * 1024;

/// A request with its signature, as it goes from who signs to who brings it in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Signed<R> {
    /// What the file is: `order` or `close`.
    pub(crate) kind: String,
    /// The network's name, for people; what counts is below.
    pub(crate) network: String,
    pub(crate) chain_id: u64,
    /// The order book, which checks the signature.
    pub(crate) market: Address,
    pub(crate) request: R,
    pub(crate) signature: Bytes,
}

/// What can be signed.
pub(crate) trait Request: SolStruct + Clone + Serialize + for<'a> Deserialize<'a> {
    const KIND: &'static str;
    fn signer(&self) -> Address;
    fn nonce(&self) -> U256;
    fn deadline(&self) -> U256;
}

impl Request for OrderRequest {
    const KIND: &'static str = "order";

    fn signer(&self) -> Address {
        self.signer
    }

    fn nonce(&self) -> U256 {
        self.nonce
    }

    fn deadline(&self) -> U256 {
        self.deadline
    }
}

impl Request for CloseRequest {
    const KIND: &'static str = "close";

    fn signer(&self) -> Address {
        self.signer
    }

    fn nonce(&self) -> U256 {
        self.nonce
    }

    fn deadline(&self) -> U256 {
        self.deadline
    }
}

/// The market's domain: chain and order book are part of every signature.
fn domain(chain_id: u64, market: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some("Spheron Market".into()),
        Some("1".into()),
        Some(U256::from(chain_id)),
        Some(market),
        None,
    )
}

impl<R: Request> Signed<R> {
    /// Signs a request for one chain and market.
    fn new(request: R, network: &::chain::network::Network, key: &PrivateKeySigner) -> eyre::Result<Self> {
        let (chain_id, market) = (network.chain_id, network.contracts.order_book);
        let hash = request.eip712_signing_hash(&domain(chain_id, market));
        let signature = key.sign_hash_sync(&hash).wrap_err("cannot sign")?;
        Ok(Self {
            kind: R::KIND.to_owned(),
            network: network.name.clone(),
            chain_id,
            market,
            request,
            signature: signature.as_bytes().into(),
        })
    }

    /// Reads a file that somebody else wrote.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let unusable = |reason: String| Failure::bad_input(format!("this is no signed {}: {reason}", R::KIND));
        // What it is comes first, so that an order brought in as a close is told as that.
        let value: Value = serde_json::from_slice(bytes).map_err(|error| unusable(error.to_string()))?;
        if value["kind"] != R::KIND {
            return Err(unusable(format!("its kind is {}", value["kind"])));
        }
        serde_json::from_value(value).map_err(|error| unusable(error.to_string()))
    }

    /// The digest that was signed.
    pub(crate) fn digest(&self) -> B256 {
        self.request.eip712_signing_hash(&domain(self.chain_id, self.market))
    }

    /// Whether the key of the signer's address made the signature.
    fn is_by_key(&self) -> bool {
        Signature::try_from(&self.signature[..])
            .and_then(|signature| signature.recover_address_from_prehash(&self.digest()))
            .is_ok_and(|address| address == self.request.signer())
    }
}

impl Session<'_> {
    /// Signs a request; the nonce is the signer's next.
    pub(crate) fn sign<R: Request>(&self, request: R, key: &PrivateKeySigner) -> eyre::Result<Signed<R>> {
        Signed::new(request, &self.chain.network, key)
    }

    /// The next nonce of a signer, and the newest block's time.
    pub(crate) async fn signing_nonce(&self, signer: Address) -> eyre::Result<(U256, u64)> {
        let book = self.order_book();
        let (nonce, (_, now)) = tokio::try_join!(read(book.nonces(signer)), self.chain.head())?;
        Ok((nonce, now))
    }

    /// Why a signed request is worth nothing here and now, before anybody pays gas to be told so.
    pub(crate) async fn check_signed<R: Request>(&self, signed: &Signed<R>) -> eyre::Result<()> {
        let (network, kind) = (&self.chain.network, R::KIND);
        if (signed.chain_id, signed.market) != (network.chain_id, network.contracts.order_book) {
            bail!(Failure::bad_input(format!(
                "the {kind} was signed for the market {} on chain {} ({}), {} is {} on chain {}",
                signed.market,
                signed.chain_id,
                signed.network,
                network.name,
                network.contracts.order_book,
                network.chain_id
            )));
        }
        let signer = signed.request.signer();
        let (nonce, now) = self.signing_nonce(signer).await?;
        let deadline = signed.request.deadline();
        if U256::from(now) > deadline {
            bail!(Failure::bad_input(format!(
                "the {kind} was worth something until {}; have {signer} sign it again",
                Date(deadline.saturating_to())
            )));
        }
        let given = signed.request.nonce();
        if given != nonce {
            let why = if given < nonce {
                "was brought in already, or its signer revoked it, or another order or close that was signed beside it was brought in \
                 first: they share a nonce"
            } else {
                "can be brought in only after another one that its signer signed before"
            };
            bail!(Failure::bad_input(format!(
                "the {kind} {why} (its nonce is {given}, {signer} is at {nonce})"
            )));
        }
        if !signed.is_by_key() {
            let code = self
                .chain
                .provider
                .get_code_at(signer)
                .await
                .wrap_err("cannot read the chain")?;
            // A contract signs in its own way, and the order book asks it.
            if code.is_empty() {
                bail!(Failure::bad_input(format!(
                    "the signature is not {signer}'s over these terms: something was altered"
                )));
            }
        }
        Ok(())
    }
}

/// What a signer should know of the nonce.
pub(crate) fn shared_nonce(nonce: U256) -> String {
    format!(
        "whatever this key signs until one of it is brought in has the same nonce ({nonce}): the first order or close that is \
         brought in makes the others worthless"
    )
}

/// Bytes of a signed request: a file, or standard input for `-`.
pub(crate) fn read_file(path: &std::path::Path) -> Result<Vec<u8>, Failure> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let limit = LARGEST_FILE_BYTES + 1;
    let read = if path == std::path::Path::new("-") {
        std::io::stdin().lock().take(limit).read_to_end(&mut bytes)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    };
    read.map_err(|error| Failure::bad_input(format!("cannot read {}: {error}", path.display())))?;
    if bytes.len() as u64 > LARGEST_FILE_BYTES {
        return Err(Failure::bad_input(format!(
            "{} is too long to be a signed request",
            path.display()
        )));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::aliases::U96;
    use alloy::primitives::keccak256;
    use bindings::OrderTerms;

    use super::*;

    fn key(byte: u8) -> PrivateKeySigner {
        PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).expect("a key")
    }

    fn request(signer: Address) -> OrderRequest {
        OrderRequest {
            signer,
            account: 1,
            token: 2,
            bidWindow: 3,
            feeSchedule: 2,
            terms: OrderTerms {
                resources: U256::from(4),
                requirements: U256::from(5),
                regions: U256::MAX,
                manifestHash: B256::repeat_byte(6),
                maximumRate: U96::from(7),
                duration: 8,
                wantedSuppliers: vec![9, 10],
                excludedSuppliers: vec![],
            },
            nonce: U256::from(11),
            deadline: U256::from(12),
        }
    }

    fn signed() -> Signed<OrderRequest> {
        let key = key(1);
        Signed::new(request(key.address()), &crate::serving::nowhere(), &key).expect("signed")
    }

    #[test]
    fn the_types_are_the_contracts() {
        let order = signed().request;
        assert_eq!(
            order.eip712_type_hash(),
            keccak256(
                "OrderRequest(address signer,uint32 account,uint8 token,uint16 bidWindow,uint16 feeSchedule,OrderTerms terms,\
                 uint256 nonce,uint256 deadline)OrderTerms(uint256 resources,uint256 requirements,uint256 regions,bytes32 manifestHash,\
                 uint96 maximumRate,uint32 duration,uint32[] wantedSuppliers,uint32[] excludedSuppliers)"
            )
        );
        let close = CloseRequest {
            signer: order.signer,
            orderId: 1,
            nonce: U256::ZERO,
            deadline: U256::ZERO,
        };
        assert_eq!(
            close.eip712_type_hash(),
            keccak256("CloseRequest(address signer,uint64 orderId,uint256 nonce,uint256 deadline)")
        );
    }

    #[test]
    fn a_request_survives_its_file_and_every_change_of_it_is_noticed() {
        let signed = signed();
        let file = serde_json::to_vec(&signed).expect("json");
        let again = Signed::<OrderRequest>::parse(&file).expect("a signed order");
        assert_eq!(again, signed);
        assert!(again.is_by_key());
        type Change = fn(&mut Signed<OrderRequest>);
        let changes: [Change; 15] = [
            |signed| signed.chain_id += 1,
            |signed| signed.market = Address::repeat_byte(1),
            |signed| signed.request.account += 1,
            |signed| signed.request.token += 1,
            |signed| signed.request.bidWindow += 1,
            |signed| signed.request.feeSchedule += 2,
            |signed| signed.request.nonce += U256::ONE,
            |signed| signed.request.deadline += U256::ONE,
            |signed| signed.request.terms.resources += U256::ONE,
            |signed| signed.request.terms.requirements += U256::ONE,
            |signed| signed.request.terms.regions -= U256::ONE,
            |signed| signed.request.terms.manifestHash = B256::ZERO,
            |signed| signed.request.terms.maximumRate += U96::from(1),
            |signed| signed.request.terms.duration += 1,
            |signed| signed.request.terms.excludedSuppliers = signed.request.terms.wantedSuppliers.split_off(1),
        ];
        for (index, change) in changes.iter().enumerate() {
            let mut altered = signed.clone();
            change(&mut altered);
            assert!(!altered.is_by_key(), "change {index}");
        }
        let mut other = signed;
        other.request.signer = key(2).address();
        assert!(!other.is_by_key());
    }

    #[test]
    fn what_is_no_signed_request_is_bad_input() {
        let file = serde_json::to_string(&signed()).expect("json");
        assert!(Signed::<CloseRequest>::parse(file.as_bytes()).is_err());
        for wrong in ["", "{}", "[]", &file[1..], &file.replace("\"nonce\"", "\"nounce\"")] {
            let error = Signed::<OrderRequest>::parse(wrong.as_bytes()).expect_err(wrong);
            assert!(error.to_string().contains("no signed order"), "{error}");
        }
    }
}
