//! Signed approvals: ERC-2612 permits, which the token itself checks, and Permit2 transfers, which work with every token.

use ::chain::network::Token;
use alloy::primitives::{Address, B256, U256};
use alloy::providers::Provider as _;
use alloy::signers::SignerSync as _;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::{Eip712Domain, SolStruct as _};
use bindings::IEscrow;
use bindings::standard::{IERC20, IERC20Permit, IPermit2, Permit, PermitTransferFrom, TokenPermissions};
use eyre::{WrapErr as _, ensure};

use crate::amounts;
use crate::chain::{Call, read};
use crate::failure::Failure;
use crate::session::Session;

/// How long a signed approval is worth something: it is brought in at once.
const VALID_SECONDS: u64 = 3_600;

impl Session<'_> {
    /// The call that deposits with an ERC-2612 permit.
    pub(crate) async fn permit_deposit(
        &self,
        signer: &PrivateKeySigner,
        account: u32,
        token: &Token,
        amount: U256,
    ) -> eyre::Result<Vec<Call>> {
        let (owner, escrow) = (signer.address(), self.chain.network.contracts.escrow);
        self.require_tokens(owner, token, amount).await?;
        let contract = IERC20Permit::new(token.address, &self.chain.provider);
        let domain = self.permit_domain(token).await?;
        let (nonce, (_, now)) = tokio::try_join!(read(contract.nonces(owner)), self.chain.head())?;
        let permit = Permit {
            owner,
            spender: escrow,
            value: amount,
            nonce,
            deadline: U256::from(now + VALID_SECONDS),
        };
        let signature = signer
            .sign_hash_sync(&permit.eip712_signing_hash(&domain))
            .wrap_err("cannot sign")?;
        let call = IEscrow::depositWithPermitCall {
            account,
            token: token.id,
            amount,
            deadline: permit.deadline,
            v: 27 + u8::from(signature.v()),
            r: B256::from(signature.r()),
            s: B256::from(signature.s()),
        };
        Ok(vec![Call::new("to deposit with a permit", escrow, &call)])
    }

    /// The domain that a token's permits are signed in: as it says, and checked against its own separator.
    async fn permit_domain(&self, token: &Token) -> eyre::Result<Eip712Domain> {
        let contract = IERC20Permit::new(token.address, &self.chain.provider);
        let unsuitable = || {
            Failure::bad_input(format!(
                "{} knows no signed approvals (ERC-2612); deposit without --permit, or with --permit2",
                token.symbol
            ))
        };
        let Ok(separator) = contract.DOMAIN_SEPARATOR().call().await else {
            return Err(unsuitable().into());
        };
        let mut candidates = Vec::new();
        if let Ok(domain) = contract.eip712Domain().call().await {
            candidates.push((domain.name, domain.version));
        }
        // Tokens from before ERC-5267: a version that they tell, or the first.
        let name = read(IERC20::new(token.address, &self.chain.provider).name()).await?;
        if let Ok(version) = contract.version().call().await {
            candidates.push((name.clone(), version));
        }
        candidates.push((name, "1".to_owned()));
        let domains = candidates.into_iter().map(|(name, version)| {
            Eip712Domain::new(
                Some(name.into()),
                Some(version.into()),
                Some(U256::from(self.chain.network.chain_id)),
                Some(token.address),
                None,
            )
        });
        let found = domains.into_iter().find(|domain| domain.separator() == separator);
        Ok(found.ok_or_else(unsuitable)?)
    }

    /// The calls that deposit through Permit2, the first time with the approval that it needs once.
    pub(crate) async fn permit2_deposit(
        &self,
        signer: &PrivateKeySigner,
        account: u32,
        token: &Token,
        amount: U256,
    ) -> eyre::Result<Vec<Call>> {
        let (owner, escrow) = (signer.address(), self.chain.network.contracts.escrow);
        self.require_tokens(owner, token, amount).await?;
        let permit2 = read(self.escrow().permit2()).await?;
        let code = self
            .chain
            .provider
            .get_code_at(permit2)
            .await
            .wrap_err("cannot read the chain")?;
        ensure!(
            !code.is_empty(),
            "there is no Permit2 on {} (nothing at {permit2}); deposit without --permit2",
            self.chain.network.name
        );
        let contract = IERC20::new(token.address, &self.chain.provider);
        let (allowed, (_, now), nonce) = tokio::try_join!(
            read(contract.allowance(owner, permit2)),
            self.chain.head(),
            self.unused_nonce(permit2, owner)
        )?;
        let mut calls = Vec::new();
        if allowed < amount {
            self.output.note(format!(
                "Permit2 ({permit2}) is approved for all {} of this key, once: from now on it moves what the key signs for",
                token.symbol
            ));
            let approve = IERC20::approveCall {
                spender: permit2,
                value: U256::MAX,
            };
            calls.push(Call::new("to approve Permit2", token.address, &approve));
        }
        let transfer = PermitTransferFrom {
            permitted: TokenPermissions {
                token: token.address,
                amount,
            },
            spender: escrow,
            nonce,
            deadline: U256::from(now + VALID_SECONDS),
        };
        let signature = signer
            .sign_hash_sync(&transfer.eip712_signing_hash(&permit2_domain(self.chain.network.chain_id, permit2)))
            .wrap_err("cannot sign")?;
        let call = IEscrow::depositWithPermit2Call {
            account,
            token: token.id,
            amount,
            nonce,
            deadline: transfer.deadline,
            signature: signature.as_bytes().into(),
        };
        calls.push(Call::new("to deposit through Permit2", escrow, &call));
        Ok(calls)
    }

    /// Permit2's nonces come in no order: any that is not used will do.
    async fn unused_nonce(&self, permit2: Address, owner: Address) -> eyre::Result<U256> {
        let contract = IPermit2::new(permit2, &self.chain.provider);
        loop {
            let nonce = U256::from_be_bytes(rand::random::<[u8; 32]>());
            let used = read(contract.nonceBitmap(owner, nonce >> 8)).await?;
            if !used.bit(usize::from(nonce.byte(0))) {
                return Ok(nonce);
            }
        }
    }

    /// Fails unless an address holds so many tokens.
    pub(crate) async fn require_tokens(&self, owner: Address, token: &Token, amount: U256) -> eyre::Result<()> {
        let held = read(IERC20::new(token.address, &self.chain.provider).balanceOf(owner)).await?;
        ensure!(
            held >= amount,
            "{owner} holds {}, {} are needed; send it some",
            amounts::shown(held, token),
            amounts::shown(amount, token)
        );
        Ok(())
    }
}

/// Permit2 signs without a version.
fn permit2_domain(chain_id: u64, permit2: Address) -> Eip712Domain {
    Eip712Domain::new(
        Some("Permit2".into()),
        None,
        Some(U256::from(chain_id)),
        Some(permit2),
        None,
    )
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{address, keccak256};

    use super::*;

    #[test]
    fn what_is_signed_is_what_the_standards_name() {
        let permit = Permit {
            owner: Address::ZERO,
            spender: Address::ZERO,
            value: U256::ZERO,
            nonce: U256::ZERO,
            deadline: U256::ZERO,
        };
        assert_eq!(
            permit.eip712_type_hash(),
            keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
        );
        let transfer = PermitTransferFrom {
            permitted: TokenPermissions {
                token: Address::ZERO,
                amount: U256::ZERO,
            },
            spender: Address::ZERO,
            nonce: U256::ZERO,
            deadline: U256::ZERO,
        };
        assert_eq!(
            transfer.eip712_type_hash(),
            keccak256(
                "PermitTransferFrom(TokenPermissions permitted,address spender,uint256 nonce,uint256 deadline)\
                 TokenPermissions(address token,uint256 amount)"
            )
        );
        // Permit2's domain on Ethereum, as its `DOMAIN_SEPARATOR()` answers there.
        let permit2 = address!("000000000022D473030F116dDEE9F6B43aC78BA3");
        assert_eq!(
            permit2_domain(1, permit2).separator().to_string(),
            "0x866a5aba21966af95d6c7ab78eb2b2fc913915c28be3b9aa07cc04ff903e3f28"
        );
    }
}
