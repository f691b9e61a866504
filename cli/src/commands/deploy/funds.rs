//! What an order takes of an account: money that is unlocked, and a bracket that the account's money entitles to. Both are
//! told together, with one deposit that is enough for both; and whether the key may spend of the account at all.

use ::chain::network::Token;
use alloy::primitives::U256;
use avs::terms::Terms;
use bindings::IPaymentTokens;
use eyre::{WrapErr as _, bail};
use serde_json::{Value, json};

use crate::accounts::Spender;
use crate::chain::read;
use crate::dates::Date;
use crate::session::Session;
use crate::{amounts, brackets};

/// Prices are dollars of a whole token with this many decimals.
const PRICE_DECIMALS: u64 = 18;
/// A deposit that is recommended has no more decimals than these.
const ADVISED_DECIMALS: u8 = 4;

/// What an order takes of an account, and what is there for it.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Funds {
    pub(in crate::commands) account: u32,
    pub(in crate::commands) token: Token,
    /// What it locks at most.
    pub(in crate::commands) lock: U256,
    pub(in crate::commands) unlocked: U256,
    /// What a lease that is replaced gives back first.
    pub(in crate::commands) returned: U256,
    /// Locked for other orders; it counts for the bracket.
    locked: U256,
    /// The bracket that the account has, and the one that is needed.
    bracket: u8,
    needed: u8,
    /// Dollars of a whole token, if the feed has a usable answer.
    price: Option<U256>,
}

impl Funds {
    /// What an account has for an order with these terms, whose lock is known.
    pub(in crate::commands) async fn of(
        session: &Session<'_>,
        account: u32,
        token: u8,
        terms: &Terms,
        lock: U256,
    ) -> eyre::Result<Self> {
        let (resources, _) = terms.unpack().wrap_err("the order's terms are malformed")?;
        let (book, escrow) = (session.order_book(), session.escrow());
        let list = IPaymentTokens::new(session.chain.network.contracts.payment_tokens, &session.chain.provider);
        let price = async { eyre::Ok(list.price(token).call().await.ok()) };
        let (held, bracket, top, price) = tokio::try_join!(
            session.balance(account, token),
            read(escrow.bracketOf(account, token)),
            read(book.topGpus()),
            price
        )?;
        Ok(Self {
            account,
            token: session.token_by_id(token)?.clone(),
            lock,
            unlocked: held.unlocked,
            returned: U256::ZERO,
            locked: held.locked,
            bracket,
            needed: brackets::needed(&resources, top),
            price: price.filter(|price| !price.is_zero()),
        })
    }

    /// Fails if money or bracket does not suffice.
    pub(in crate::commands) fn require(&self) -> eyre::Result<()> {
        match self.missing() {
            Some(missing) => bail!(missing),
            None => Ok(()),
        }
    }

    /// Fails if the bracket does not suffice; the money may still come.
    pub(in crate::commands) fn require_bracket(&self) -> eyre::Result<()> {
        match self.missing() {
            Some(missing) if !self.is_entitled() => bail!(missing),
            _ => Ok(()),
        }
    }

    pub(in crate::commands) fn is_enough(&self) -> bool {
        self.lacking_lock().is_zero()
    }

    pub(in crate::commands) fn is_entitled(&self) -> bool {
        self.bracket >= self.needed
    }

    /// What is missing of the money that is locked.
    fn lacking_lock(&self) -> U256 {
        self.lock.saturating_sub(self.unlocked + self.returned)
    }

    /// What is missing of the money that entitles to the order, at today's price; nothing if there is none.
    fn lacking_bracket(&self) -> Option<U256> {
        let dollars = U256::from(brackets::dollars(self.needed));
        let scale = U256::from(10).checked_pow(U256::from(PRICE_DECIMALS + u64::from(self.token.decimals)))?;
        let held = dollars.checked_mul(scale)?.div_ceil(self.price?);
        Some(held.saturating_sub(self.unlocked + self.locked))
    }

    /// What is missing, and the one deposit that is enough.
    fn missing(&self) -> Option<String> {
        let lacking = self.lacking_lock();
        let (account, symbol) = (self.account, &self.token.symbol);
        let mut parts = Vec::new();
        if !lacking.is_zero() {
            let more = match self.returned.is_zero() {
                true => String::new(),
                false => format!(
                    " and gets {} back from the lease that is replaced",
                    amounts::shown(self.returned, &self.token)
                ),
            };
            parts.push(format!(
                "account {account} has {} unlocked{more}, up to {} are locked",
                amounts::shown(self.unlocked, &self.token),
                amounts::shown(self.lock, &self.token)
            ));
        }
        if !self.is_entitled() {
            let entitled = match self.bracket {
                0 => String::new(),
                some => format!(", which entitles to {}", brackets::entitlement(some)),
            };
            parts.push(format!(
                "account {account} has bracket {} in {symbol}{entitled}; what is asked for takes bracket {}: {} dollars of {symbol} in \
                 the account, locked or not",
                self.bracket,
                self.needed,
                brackets::dollars(self.needed)
            ));
        }
        if parts.is_empty() {
            return None;
        }
        let deposit = |amount: U256| {
            let amount = rounded_up(amount, self.token.decimals);
            let amount = amounts::whole(amount, self.token.decimals);
            format!("run `spheron account deposit {amount} --account {account} --token {symbol}`")
        };
        let advice = match self.lacking_bracket() {
            _ if self.is_entitled() => deposit(lacking),
            None => format!(
                "{symbol} has no usable price now, without which no bracket is given: see `spheron tokens`, or ask for less"
            ),
            Some(dollars) if dollars.is_zero() && lacking.is_zero() => format!(
                "at today's price it holds enough: run `spheron account update-bracket --account {account} --token {symbol}`"
            ),
            Some(dollars) if lacking.is_zero() => {
                format!(
                    "{}, which is enough at today's price, or ask for less",
                    deposit(dollars)
                )
            }
            Some(dollars) => format!(
                "{}, which is enough for both at today's price",
                deposit(dollars.max(lacking))
            ),
        };
        Some(format!("{}; {advice}", parts.join("; ")))
    }

    /// What the account holds for it.
    pub(in crate::commands) fn json(&self, value: &mut Value) {
        value["account"] = json!({
            "account": self.account.to_string(),
            "unlocked": amounts::whole(self.unlocked, self.token.decimals),
            "enough": self.is_enough(),
        });
        value["bracket"] = json!({"account": self.bracket, "needed": self.needed, "enough": self.is_entitled()});
        value["missing"] = self.missing().into();
    }

    /// [`Self::json`] for people.
    pub(in crate::commands) fn facts(&self) -> Vec<(&'static str, String)> {
        let not = |enough: bool| if enough { "" } else { ", which is not enough" };
        let mut lines = vec![
            (
                "account",
                format!(
                    "{} has {} unlocked{}",
                    self.account,
                    amounts::shown(self.unlocked, &self.token),
                    not(self.is_enough())
                ),
            ),
            (
                "bracket",
                format!(
                    "{} is needed, the account has {}{}",
                    self.needed,
                    self.bracket,
                    not(self.is_entitled())
                ),
            ),
        ];
        if let Some(missing) = self.missing() {
            lines.push(("missing", missing));
        }
        lines
    }
}

/// Units rounded up to what people write.
fn rounded_up(units: U256, decimals: u8) -> U256 {
    let fine = u64::from(decimals.saturating_sub(ADVISED_DECIMALS));
    match U256::from(10).checked_pow(U256::from(fine)) {
        Some(step) => units.div_ceil(step).saturating_mul(step),
        None => units,
    }
}

/// Whether a key may lock money of an account, as a dry run tells it.
#[derive(Debug, Clone)]
pub(in crate::commands) struct Standing {
    spender: Spender,
    /// Why it may not.
    problem: Option<String>,
}

impl Standing {
    /// Of this home's key; nothing for a home without a key.
    pub(in crate::commands) async fn of(
        session: &Session<'_>,
        account: u32,
        token: &Token,
        amount: U256,
    ) -> eyre::Result<Option<Self>> {
        let Ok(key) = session.home.address() else {
            return Ok(None);
        };
        let spender = session.spender(account, token, key).await?;
        Ok(Some(Self {
            problem: spender.require(token, amount).err().map(|error| error.to_string()),
            spender,
        }))
    }

    pub(in crate::commands) fn json(&self, token: &Token) -> Value {
        let mut value = json!({
            "key": self.spender.key, "owner": self.spender.right.is_none(), "enough": self.problem.is_none(), "problem": self.problem,
        });
        if let Some((limit, expiry)) = &self.spender.right {
            value["left"] = amounts::whole(*limit, token.decimals).into();
            value["left_units"] = limit.to_string().into();
            value["expiry"] = (*expiry).into();
        }
        value
    }

    /// Whether this key may pay, for people.
    pub(in crate::commands) fn text(&self, token: &Token) -> String {
        match (&self.problem, &self.spender.right) {
            (Some(problem), _) => format!("may not pay this: {problem}"),
            (None, None) => format!("{} owns the account", self.spender.key),
            (None, Some((limit, expiry))) => format!(
                "{} may lock {} of the account until {} UTC",
                self.spender.key,
                amounts::shown(*limit, token),
                Date(*expiry)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;

    use super::*;

    const UNITS: u64 = 1_000_000;

    /// An account with so many whole tokens at 2 dollars, for an order that locks 3 and takes bracket 2, which is 30 dollars.
    fn funds(unlocked: u64, bracket: u8) -> Funds {
        Funds {
            account: 7,
            token: Token {
                id: 1,
                symbol: "uSPON".to_owned(),
                address: Address::ZERO,
                decimals: 6,
            },
            lock: U256::from(3 * UNITS),
            unlocked: U256::from(unlocked * UNITS),
            returned: U256::ZERO,
            locked: U256::ZERO,
            bracket,
            needed: 2,
            price: Some(U256::from(2) * U256::from(10).pow(U256::from(18))),
        }
    }

    fn missing(funds: &Funds) -> String {
        funds.require().expect_err("something is missing").to_string()
    }

    #[test]
    fn what_suffices_is_not_spoken_of() {
        assert!(funds(3, 2).require().is_ok());
        let returned = Funds {
            returned: U256::from(UNITS),
            ..funds(2, 2)
        };
        assert!(returned.require().is_ok());
    }

    #[test]
    fn one_deposit_is_enough_for_the_lock_and_for_the_bracket() {
        let empty = missing(&funds(0, 0));
        assert!(
            empty.contains("up to 3 uSPON are locked") && empty.contains("bracket 2: 30 dollars"),
            "{empty}"
        );
        // The lock alone would take 3, and the next run would ask for the bracket.
        assert!(
            empty.contains("`spheron account deposit 15 --account 7 --token uSPON`"),
            "{empty}"
        );
        let entitled = missing(&funds(1, 2));
        assert!(
            entitled.contains("account deposit 2 --account 7") && !entitled.contains("dollars"),
            "{entitled}"
        );
        let poor = missing(&funds(10, 1));
        assert!(
            poor.contains("account deposit 5 --account 7") && !poor.contains("are locked"),
            "{poor}"
        );
    }

    #[test]
    fn money_that_is_locked_counts_for_the_bracket_and_a_price_that_rose_needs_no_deposit() {
        let locked = Funds {
            locked: U256::from(12 * UNITS),
            ..funds(3, 0)
        };
        let told = missing(&locked);
        assert!(
            told.contains("update-bracket --account 7") && !told.contains("account deposit"),
            "{told}"
        );
    }

    #[test]
    fn without_a_price_no_deposit_is_promised_to_be_enough() {
        let unpriced = Funds {
            price: None,
            ..funds(3, 0)
        };
        let told = missing(&unpriced);
        assert!(
            told.contains("no usable price") && !told.contains("account deposit"),
            "{told}"
        );
        // Somebody signs, another deposits: only the bracket is asked for beforehand.
        assert!(unpriced.require_bracket().is_err());
        assert!(funds(0, 2).require_bracket().is_ok());
    }

    #[test]
    fn what_is_recommended_is_rounded_up() {
        assert_eq!(rounded_up(U256::from(1_000_001), 6), U256::from(1_000_100));
        assert_eq!(rounded_up(U256::from(1_000_000), 6), U256::from(1_000_000));
        assert_eq!(rounded_up(U256::from(7), 2), U256::from(7));
    }
}
