//! `spheron provider close`: ends a lease that the provider serves, with its reason on chain.

use alloy::primitives::Address;
use bindings::{Order, OrderState};
use eyre::{OptionExt as _, ensure};

use super::open_key;
use crate::arguments::{CloseLease, CloseReason};
use crate::commands::lease::close::Closed;
use crate::commands::lease::{OnChain, on_chain};
use crate::dates::Date;
use crate::market::{Supplier, Time, state};
use crate::output::facts;
use crate::session::Session;

pub(super) async fn run(session: &Session<'_>, arguments: &CloseLease) -> eyre::Result<()> {
    let lease = arguments.lease;
    session.leased(lease).await?;
    let (found, token) = (on_chain(session, lease).await?, session.token_of(lease)?);
    let signer = open_key(session, arguments.key.as_deref())?;
    let expected = closes_as(&found, arguments.reason);
    if expected != OrderState::ClosedAtEnd {
        let supplier = found.supplier.as_ref().ok_or_eyre("a lease has a supplier")?;
        require_owner(lease, supplier, signer.address())?;
    } else {
        session.output.note(format!(
            "the end of lease {lease} and the grace after it are over: that is its reason, whoever closes it"
        ));
    }
    if arguments.dry_run {
        let billed = found.account.map_or(0, |account| account.seconds);
        let closed = Closed::of(lease, token, &found, billed, expected);
        let pay = held_until(session, &found.word, found.now).await?;
        return show(session, &closed, pay, false);
    }
    session.output.step(format!(
        "closing lease {lease}: {}",
        state(expected).1.unwrap_or_default()
    ));
    let billed = session.close_as(&signer, lease, arguments.reason.state()).await?;
    let (word, (_, now)) = tokio::try_join!(session.order(lease), session.chain.head())?;
    let closed = Closed::of(lease, token, &found, billed, word.state);
    show(session, &closed, held_until(session, &word, now).await?, true)
}

/// What a close for a reason leaves: after end and grace every close is the one at the end.
fn closes_as(found: &OnChain, reason: CloseReason) -> OrderState {
    match found.account.and_then(|account| account.time) {
        Some(Time::Over) => OrderState::ClosedAtEnd,
        _ => reason.state(),
    }
}

fn require_owner(lease: u64, supplier: &Supplier, key: Address) -> eyre::Result<()> {
    ensure!(
        supplier.owner == key,
        "lease {lease} is served by provider {} ({}) of {}, not by {key}; name its key with --key; whose lease it is ends it with \
         `spheron lease close`",
        supplier.id,
        supplier.name,
        supplier.owner
    );
    Ok(())
}

/// Until when (Unix seconds) what a lease has earned is held, if it still is.
async fn held_until(session: &Session<'_>, word: &Order, now: u64) -> eyre::Result<Option<u64>> {
    let hold_end = u64::from(word.start) + u64::from(session.windows().await?.payout_hold);
    Ok((now < hold_end).then_some(hold_end))
}

fn show(session: &Session<'_>, closed: &Closed<'_>, held_until: Option<u64>, sent: bool) -> eyre::Result<()> {
    let mut value = closed.json();
    value["held_until"] = held_until.into();
    value["sent"] = sent.into();
    let mut lines = closed.facts();
    if !closed.bill.paid.is_zero() {
        lines.push(("its pay", pay(held_until)));
    }
    if !sent {
        lines.push(("dry run", "so it would be by now; nothing was sent".to_owned()));
    }
    session.output.result(&value, &facts(&lines));
    Ok(())
}

/// When the provider has its pay.
fn pay(held_until: Option<u64>) -> String {
    match held_until {
        None => "credited at the close; the agent collects it, or `spheron account credits --withdraw`".to_owned(),
        Some(end) => format!(
            "held until {} UTC, while the match can be disputed; the agent collects it then",
            Date(end)
        ),
    }
}

#[cfg(test)]
mod tests {
    use ::chain::network::Token;
    use alloy::primitives::U256;
    use alloy::sol_types::SolCall as _;
    use bindings::IOrderBook;

    use super::*;
    use crate::amounts::Origin;
    use crate::chain::Chain;
    use crate::failure::exit_status;
    use crate::home::Home;
    use crate::market::{Account, Windows, tests};
    use crate::output::Output;

    /// A lease of 160 s that began at 1 000, at a unit a second.
    fn found(now: u64) -> OnChain {
        let (word, schedule) = (tests::lease(), tests::commission_alone());
        let windows = Windows {
            grace: 120,
            low_funds: 300,
            payout_hold: 600,
        };
        OnChain {
            account: Account::of(&word, &schedule, Origin::default(), windows, now),
            word,
            supplier: None,
            workload: 7,
            origin: Origin::default(),
            schedule,
            now,
        }
    }

    /// How a close of lease 7 ends whose order is this one on chain.
    async fn refused(state: OrderState) -> eyre::Report {
        let folder = tempfile::tempdir().expect("temporary folder");
        let output = Output::new(true);
        let order = Order {
            state,
            ..tests::lease()
        };
        let answer = IOrderBook::orderCall::abi_encode_returns(&order);
        let session = Session {
            output: &output,
            home: Home::new(Some(folder.path()), None).expect("home"),
            chain: Chain::answering(
                crate::serving::nowhere(),
                &[alloy::primitives::hex::encode_prefixed(answer).into()],
            ),
            windows: Default::default(),
        };
        let arguments = CloseLease {
            lease: 7,
            reason: CloseReason::Maintenance,
            key: None,
            dry_run: false,
        };
        run(&session, &arguments).await.expect_err("nothing to close")
    }

    #[tokio::test]
    async fn only_what_lives_is_closed() {
        for (state, status, words) in [
            (OrderState::None, 2, "there is no order 7"),
            (OrderState::Open, 1, "order 7 has no lease yet"),
            (OrderState::Cancelled, 1, "lease 7 is cancelled"),
            (OrderState::ClosedByUser, 1, "lease 7 is closed (ended by its user)"),
        ] {
            let error = refused(state).await;
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(exit_status(&error), status, "{error}");
        }
    }

    #[test]
    fn another_provider_is_told_whose_lease_it_is() {
        let supplier = Supplier {
            id: 3,
            owner: Address::repeat_byte(3),
            name: "north".to_owned(),
            gateway: String::new(),
        };
        require_owner(7, &supplier, Address::repeat_byte(3)).expect("its own lease");
        let error = require_owner(7, &supplier, Address::repeat_byte(4)).expect_err("another's");
        let said = error.to_string();
        for part in [
            "provider 3 (north)",
            &supplier.owner.to_string(),
            "--key",
            "spheron lease close",
        ] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_lease_that_is_over_is_closed_as_such_and_any_other_for_its_reason() {
        let reason = CloseReason::AbnormalService;
        // Its end is at 1 160, its grace a sixteenth of 160 s.
        assert_eq!(closes_as(&found(1_169), reason), OrderState::ClosedAbnormalService);
        assert_eq!(closes_as(&found(1_170), reason), OrderState::ClosedAtEnd);
        let states = [
            (CloseReason::Maintenance, OrderState::ClosedMaintenance),
            (CloseReason::CannotStart, OrderState::ClosedCannotStart),
            (CloseReason::NoManifest, OrderState::ClosedNoManifest),
        ];
        for (reason, state) in states {
            assert_eq!(reason.state(), state);
        }
    }

    #[test]
    fn the_bill_is_for_the_seconds_until_the_close_and_the_rest_is_the_users() {
        let token = Token {
            id: 1,
            symbol: "uSPON".to_owned(),
            address: Address::ZERO,
            decimals: 0,
        };
        let closed = Closed::of(7, &token, &found(1_100), 100, OrderState::ClosedAbnormalService);
        assert_eq!(closed.bill.paid, U256::from(80));
        let value = closed.json();
        assert_eq!(
            value["reason"],
            "the provider says that its services do not run, or restart abnormally"
        );
        assert_eq!(value["billed_seconds"], 100);
        for (name, units) in [("spent", "100"), ("paid", "80"), ("fees", "20"), ("refunded", "60")] {
            assert_eq!(value[format!("{name}_units")], units, "{name}");
        }
        let text = facts(&closed.facts());
        assert!(text.contains("restart abnormally") && text.contains("1m 40s"), "{text}");
    }

    #[test]
    fn held_pay_has_a_date() {
        assert!(pay(Some(1_801_396_800)).contains("2027-01-31"));
        assert!(pay(None).contains("spheron account credits --withdraw"));
    }
}
