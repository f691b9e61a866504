//! Whom providers talk to: a home whose certificate its own key has published, if the key owns the lease's account or may spend
//! of it now.

use ::chain::network::Token;
use alloy::primitives::{Address, U256};
use bindings::{ICertificateRegistry, SpendingRight};
use eyre::{OptionExt as _, WrapErr as _, bail};
use gateway::{GatewayClient, PinnedFingerprints};
use url::Url;

use crate::amounts;
use crate::chain::read;
use crate::dates::Date;
use crate::market::Supplier;
use crate::session::Session;

impl Session<'_> {
    /// The certificates that an address published; nothing when there are none, or they were revoked.
    pub(crate) async fn published_by(&self, holder: Address) -> eyre::Result<Option<PinnedFingerprints>> {
        let registry = self.chain.network.contracts.certificate_registry;
        let published = read(ICertificateRegistry::new(registry, &self.chain.provider).fingerprints(holder)).await?;
        Ok(PinnedFingerprints::from_chain(published.current, published.next))
    }

    /// A supplier's gateway, recognised by the fingerprints that its owner published, and told whose certificate this home's is.
    pub(crate) async fn gateway(&self, supplier: &Supplier) -> eyre::Result<GatewayClient> {
        let pinned = self.published_by(supplier.owner).await?.ok_or_eyre(format!(
            "provider {} ({}) has no certificate on chain, or revoked it: nothing can be sent to it safely",
            supplier.id, supplier.name
        ))?;
        let url: Url = supplier.gateway.parse().wrap_err_with(|| {
            format!(
                "provider {} names a gateway that is no URL: {}",
                supplier.id, supplier.gateway
            )
        })?;
        let client = GatewayClient::new(&url, pinned, &self.home.identity()?)?;
        Ok(client.with_holder(self.home.address()?))
    }

    /// Fails unless providers will talk to this home about an account's leases in a token, also after it has locked `to_lock`
    /// more units there: without its manifest a lease is worth nothing.
    pub(crate) async fn require_access(&self, account: u32, token: &Token, to_lock: U256) -> eyre::Result<()> {
        let (key, own) = (self.home.address()?, self.home.identity()?.fingerprint());
        let (owner, published) = tokio::try_join!(self.owner_of(account), self.published_by(key))?;
        match published {
            Some(published) if published.contains(&own) => {}
            Some(published) => bail!(
                "{key} has published the certificate {published}, this home's is {own}, so that no provider would talk to it; see \
                 `spheron init`"
            ),
            None => bail!(
                "{key} has not published the certificate of this home, so that no provider would talk to it; run `spheron init`"
            ),
        }
        if owner == key {
            return Ok(());
        }
        let escrow = self.escrow();
        let right = escrow.spendingRight(account, key, token.id);
        let (right, (_, now)) = tokio::try_join!(read(right), self.chain.head())?;
        if let Some(missing) = missing_right(&right, now, to_lock, token) {
            bail!(
                "account {account} belongs to {owner}, and providers talk to its owner and to who may spend of it: {key} {missing}; the \
                 owner can grant it: spheron account operator add {key} --account {account} --token {} --limit AMOUNT",
                token.symbol
            );
        }
        Ok(())
    }
}

/// Why a right lets nobody in, or would not any more once so much of it is spent, said of its holder.
fn missing_right(right: &SpendingRight, now: u64, to_lock: U256, token: &Token) -> Option<String> {
    let (limit, expiry) = (U256::from(right.limit), right.expiry.to::<u64>());
    let symbol = &token.symbol;
    if limit.is_zero() && !right.mayClose {
        return Some(format!("has no right in {symbol} of which anything is left"));
    }
    if expiry <= now {
        return Some(format!("had a right in {symbol} until {} UTC", Date(expiry)));
    }
    if limit <= to_lock && !right.mayClose {
        return Some(format!(
            "may lock {} more, of which nothing would be left after this, and no provider would talk to it; it needs a right to more \
             (or --may-close)",
            amounts::shown(limit, token)
        ));
    }
    None
}

#[cfg(test)]
mod tests {
    use alloy::primitives::aliases::{U40, U112};

    use super::*;

    #[test]
    fn a_right_lets_in_while_it_lives_and_something_is_left_of_it() {
        let token = Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address: Address::ZERO,
            decimals: 6,
        };
        let missing = |limit: u64, expiry: u64, may_close, to_lock: u64| {
            let right = SpendingRight {
                limit: U112::from(limit),
                expiry: U40::from(expiry),
                mayClose: may_close,
            };
            missing_right(&right, 1_800_000_000, U256::from(to_lock), &token)
        };
        let later = 1_800_000_001;
        for (limit, may_close, to_lock) in [(1, false, 0), (6, false, 5), (0, true, 0), (5, true, 5)] {
            assert_eq!(
                missing(limit, later, may_close, to_lock),
                None,
                "{limit} {may_close} {to_lock}"
            );
        }
        for (limit, expiry, may_close, to_lock, part) in [
            (0, 0, false, 0, "has no right in uSPON"),
            (0, later, false, 0, "of which anything is left"),
            (1, later - 1, false, 0, "until 2027-01-15"),
            (1, later - 1, true, 0, "until 2027-01-15"),
            (5, later, false, 5, "nothing would be left"),
            (0, later, false, 5, "has no right"),
        ] {
            let told = missing(limit, expiry, may_close, to_lock).expect(part);
            assert!(told.contains(part), "{told}");
        }
    }
}
