//! Accounts as their owners use them, by the command line: money in and out, hand-over, extension, orders that
//! somebody else brings in; and a history that adds up to the unit after each of them.

use std::path::PathBuf;

use bindings::OrderState;
use devnet::demo::Spheron;
use eyre::{OptionExt as _, ensure};
use serde_json::Value;
use system_tests::{DEPOSIT, Network, Sharing, deployment, eventually, on_devnet};

/// uSPON has six decimals.
pub(crate) const UNITS: u64 = 1_000_000;

/// Runs a command that must fail, and returns what it complains about.
pub(crate) async fn refused(user: &Spheron, arguments: &[&str]) -> eyre::Result<String> {
    let output = user.command(arguments).output().await?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        !output.status.success(),
        "`spheron {}` should have been refused; it printed {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout)
    );
    Ok(said)
}

pub(crate) fn expect_in(said: &str, part: &str) -> eyre::Result<()> {
    ensure!(said.contains(part), "{part:?} is missing in: {said}");
    Ok(())
}

/// What a token's part of an answer says, as units.
fn units(account: &Value, symbol: &str, field: &str) -> eyre::Result<u64> {
    let tokens = account["tokens"].as_array().ok_or_eyre("an account has tokens")?;
    let token = tokens.iter().find(|token| token["symbol"] == symbol);
    let found = token.and_then(|token| token[field].as_str());
    Ok(found.ok_or_eyre(format!("{symbol} has {field}"))?.parse()?)
}

/// The history of an account, which must say that every unit is accounted for.
pub(crate) async fn balanced(user: &Spheron, account: &str) -> eyre::Result<Value> {
    let history = user.json(&["account", "history", "--account", account]).await?;
    ensure!(
        history["balanced"] == true,
        "account {account}: {}",
        history["problems"]
    );
    Ok(history)
}

pub(crate) fn entries(history: &Value, event: &str) -> usize {
    let entries = history["entries"].as_array().into_iter().flatten();
    entries.filter(|entry| entry["event"] == event).count()
}

/// One of the sums of a history, in units.
fn sum(history: &Value, symbol: &str, name: &str) -> eyre::Result<u64> {
    let sums = history["sums"].as_array().ok_or_eyre("a history has sums")?;
    let token = sums.iter().find(|sums| sums["symbol"] == symbol);
    let found = token.and_then(|sums| sums[format!("{name}_units")].as_str());
    Ok(found.ok_or_eyre(format!("{symbol} has {name}"))?.parse()?)
}

pub(crate) async fn first_account(user: &Spheron) -> eyre::Result<String> {
    let shown = user.json(&["account", "show"]).await?;
    Ok(shown["account"]
        .as_str()
        .ok_or_eyre("an account has a number")?
        .to_owned())
}

pub(crate) async fn address(user: &Spheron) -> eyre::Result<String> {
    Ok(std::fs::read_to_string(user.home.join("address"))?.trim().to_owned())
}

/// A deployment file in the devnet's own folder.
fn file(network: &Network, name: &str, text: &str) -> eyre::Result<PathBuf> {
    let path = network.devnet.options.directory.join(name);
    std::fs::write(&path, text)?;
    Ok(path)
}

#[tokio::test(flavor = "multi_thread")]
async fn deposits_come_in_three_ways_into_any_account_and_leave_again() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let (owner, other) = (network.user("user-1").await?, network.user("user-2").await?);
            let account = first_account(&owner).await?;

            // SPON knows permits, uSPON does not; Permit2 takes both. Anybody deposits into anybody's account.
            let said = refused(&owner, &["account", "deposit", "5", "--permit"]).await?;
            expect_in(&said, "--permit2")?;
            owner
                .json(&["account", "deposit", "20", "--token", "SPON", "--permit"])
                .await?;
            owner.json(&["account", "deposit", "5", "--permit2"]).await?;
            owner.json(&["account", "deposit", "6", "--permit2"]).await?;
            let shown = other.json(&["account", "deposit", "7", "--account", &account]).await?;
            ensure!(
                units(&shown, "uSPON", "unlocked_units")? == (DEPOSIT + 18) * UNITS,
                "account {account} holds {shown}"
            );
            let bracket = |shown: &Value, symbol: &str| {
                let tokens = shown["tokens"].as_array().into_iter().flatten();
                let mut of = tokens.filter(|token| token["symbol"] == symbol);
                of.next().and_then(|token| token["bracket"]["bracket"].as_u64())
            };
            // 1 018 dollars are 67 times the first step, 20 dollars once.
            ensure!(bracket(&shown, "uSPON") == Some(7), "brackets of {shown}");
            ensure!(bracket(&shown, "SPON") == Some(1), "brackets of {shown}");

            let said = refused(&other, &["account", "withdraw", "1", "--account", &account]).await?;
            expect_in(&said, "belongs to")?;
            let said = refused(&owner, &["account", "withdraw", "1019"]).await?;
            expect_in(&said, "were asked for")?;
            // A withdrawal lowers the bracket without asking for a price; what is left still entitles to the same.
            let shown = owner.json(&["account", "withdraw", "18"]).await?;
            ensure!(bracket(&shown, "uSPON") == Some(7), "brackets of {shown}");
            let moved = &shown["withdrawn"];
            ensure!(
                moved["amount_units"] == (18 * UNITS).to_string().as_str() && moved["bracket"] == 7,
                "{shown}"
            );
            let shown = owner.json(&["account", "withdraw", "1", "--token", "SPON"]).await?;
            ensure!(bracket(&shown, "SPON") == Some(1), "brackets of {shown}");
            let shown = owner.json(&["account", "withdraw", "all", "--token", "SPON"]).await?;
            ensure!(bracket(&shown, "SPON") == Some(0), "brackets of {shown}");

            let second = owner.json(&["account", "open"]).await?;
            let listed = owner.json(&["account", "list"]).await?;
            let accounts = listed["accounts"].as_array().map_or(0, Vec::len);
            ensure!(accounts == 2, "{second} was opened beside {account}: {listed}");
            let leases = owner.json(&["ps"]).await?;
            ensure!(leases["accounts"].as_array().map(Vec::len) == Some(2), "{leases}");
            let said = refused(&owner, &["ps", "--account", "99"]).await?;
            expect_in(&said, "there is no account 99")?;
            let said = refused(&owner, &["account", "history", "--order", "4311744599"]).await?;
            expect_in(&said, "there is no order 4311744599")?;
            let nobody = "0x0000000000000000000000000000000000000000";
            let said = refused(&owner, &["account", "operator", "add", nobody, "--limit", "1"]).await?;
            expect_in(&said, "zero address")?;

            let history = balanced(&owner, &account).await?;
            ensure!(entries(&history, "deposit") == 5, "{history}");
            ensure!(entries(&history, "withdrawal") == 3, "{history}");
            ensure!(
                sum(&history, "uSPON", "deposited")? == (DEPOSIT + 18) * UNITS,
                "{history}"
            );

            let tokens = owner.json(&["tokens"]).await?;
            ensure!(
                tokens["tokens"]
                    .as_array()
                    .is_some_and(|tokens| tokens.iter().all(|token| {
                        token["status"] == "enabled" && token["price"].as_str().is_some_and(|price| !price.is_empty())
                    })),
                "{tokens}"
            );
            Ok(())
        },
    )
    .await
}

/// The account goes with its live lease: the new owner reads, extends and ends it, the old one does nothing any more.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_handed_over_with_its_live_lease_and_its_rights_end() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let (seller, buyer) = (network.user("user-1").await?, network.user("user-2").await?);
            let (account, to) = (first_account(&seller).await?, address(&buyer).await?);
            // Dear enough that a fee of one unit is due within seconds: a lease that paid none is not rated.
            let text = deployment("image: spheron/hello:1").replace("units: 0.1", "units: 1");
            let deployed = network.deployed(&seller, &file(network, "app.yaml", &text)?).await?;
            let lease = deployed.order.to_string();
            let right = [
                "account",
                "operator",
                "add",
                "0x00000000000000000000000000000000000000aa",
                "--limit",
                "3",
            ];
            seller.json(&right).await?;

            let transfer = ["account", "transfer", to.as_str(), "--account", account.as_str()];
            let shown = seller.json(&transfer).await?;
            ensure!(shown["sent"] == false, "{shown}");
            ensure!(shown["live"][0]["order"] == lease.as_str(), "{shown}");
            ensure!(shown["rights_that_end"].as_array().map(Vec::len) == Some(1), "{shown}");
            expect_in(
                &refused(&buyer, &["lease", "close", &lease]).await?,
                "belongs to account",
            )?;

            let shown = seller.json(&[&transfer[..], &["--yes"]].concat()).await?;
            ensure!(shown["sent"] == true, "{shown}");
            expect_in(
                &refused(&seller, &["lease", "close", &lease]).await?,
                "belongs to account",
            )?;
            let rights = buyer
                .json(&["account", "operator", "list", "--account", &account])
                .await?;
            ensure!(
                rights["spending_rights"].as_array().is_some_and(Vec::is_empty),
                "{rights}"
            );

            // The provider answers whoever owns the account now.
            let status = eventually("the provider to know the new owner", async || {
                let shown = buyer.json(&["lease", "show", &lease]).await?;
                Ok((shown["phase"] == "running").then_some(shown))
            })
            .await?;
            let before = status["end"].as_u64().ok_or_eyre("a lease has an end")?;
            let dry = buyer
                .json(&["lease", "top-up", &lease, "--amount", "2", "--dry-run"])
                .await?;
            ensure!(dry["sent"] == false && dry["deposit_units"] == "2000000", "{dry}");
            let topped = buyer.json(&["lease", "top-up", &lease, "--amount", "2"]).await?;
            let added = topped["added_seconds"].as_u64().ok_or_eyre("an extension")?;
            ensure!(topped["end"].as_u64() == Some(before + added), "{topped}");

            eventually("the lease to run for some seconds", async || {
                let shown = buyer.json(&["lease", "show", &lease]).await?;
                Ok((shown["seconds"].as_u64() >= Some(3)).then_some(()))
            })
            .await?;
            let closed = buyer.json(&["lease", "close", &lease]).await?;
            // While the payout hold lasts, which it may or may not by now, nothing is paid that could be rated.
            eventually("the payout hold to be over and the lease rated", async || {
                let rated = buyer
                    .command(&["lease", "rate", &lease, "9", "--json"])
                    .output()
                    .await?;
                if rated.status.success() {
                    return Ok(Some(()));
                }
                expect_in(&String::from_utf8_lossy(&rated.stderr), "is held back for")?;
                Ok(None)
            })
            .await?;
            expect_in(
                &refused(&buyer, &["lease", "rate", &lease, "1"]).await?,
                "rated already",
            )?;
            let history = balanced(&buyer, &account).await?;
            let spent: u64 = closed["spent_units"].as_str().ok_or_eyre("a bill")?.parse()?;
            let told = &history["leases"][0]["spent_units"];
            ensure!(
                told == spent.to_string().as_str(),
                "the bill says {spent}, the history {told}"
            );
            ensure!(
                sum(&history, "uSPON", "unlocked")? == (DEPOSIT + 2) * UNITS - spent,
                "{history}"
            );
            ensure!(
                entries(&history, "handed_over") == 1 && entries(&history, "rating") == 1,
                "{history}"
            );
            network.running(0).await.map(drop)
        },
    )
    .await
}

/// One key signs every term, another brings the order in; nothing of it can be changed or brought in twice.
#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_signed_by_one_key_and_brought_in_by_another() -> eyre::Result<()> {
    on_devnet(
        Sharing::Shared,
        |_| {},
        async |network| {
            let (signer, sender) = (network.user("user-1").await?, network.user("user-2").await?);
            let account = first_account(&signer).await?;
            let app = file(network, "app.yaml", &deployment("image: spheron/hello:1"))?;
            let (app, folder) = (app.display().to_string(), network.devnet.options.directory.clone());
            let signed = folder.join("order.json");
            let signed_path = signed.display().to_string();
            let sign = ["order", "sign", app.as_str(), "--output", signed_path.as_str()];

            // Revoked, and altered, before anything is on chain.
            signer.json(&sign).await?;
            signer.json(&["account", "revoke-signature"]).await?;
            expect_in(
                &refused(&sender, &["order", "submit", &signed_path]).await?,
                "revoked it",
            )?;
            signer.json(&sign).await?;
            let dry = sender.json(&["order", "submit", &signed_path, "--dry-run"]).await?;
            ensure!(
                dry["sent"] == false && dry["enough"] == true && dry["terms"]["duration_seconds"] == 3_600,
                "{dry}"
            );
            let text = std::fs::read_to_string(&signed)?;
            let altered = text.replacen("\"duration\": 3600", "\"duration\": 7200", 1);
            ensure!(altered != text, "the file holds the duration: {text}");
            let altered = file(network, "altered.json", &altered)?.display().to_string();
            expect_in(
                &refused(&sender, &["order", "submit", &altered]).await?,
                "something was altered",
            )?;

            let ordered = sender.json(&["order", "submit", &signed_path]).await?;
            let order = ordered["order"].as_str().ok_or_eyre("an order")?.to_owned();
            ensure!(ordered["account"] == account.as_str(), "{ordered}");
            expect_in(
                &refused(&sender, &["order", "submit", &signed_path]).await?,
                "brought in already",
            )?;
            let deployed = signer.json(&["deploy", "--resume", &order]).await?;
            ensure!(deployed["state"] == "running", "{deployed}");

            let close = signer.json(&["lease", "close", &order, "--sign"]).await?;
            let path = file(network, "close.json", &close.to_string())?.display().to_string();
            let closed = sender.json(&["lease", "close", "--submit", &path]).await?;
            ensure!(closed["lease"] == order.as_str(), "{closed}");
            let lease: u64 = order.parse()?;
            let word = network.in_state(lease, OrderState::ClosedByUser).await?;
            ensure!(
                closed["billed_seconds"] == word.duration,
                "{closed}, billed {}",
                word.duration
            );
            // The sender paid the gas, the signer's account the lease.
            let history = balanced(&signer, &account).await?;
            let told = history["entries"].as_array().into_iter().flatten();
            for entry in told.filter(|entry| entry["event"] == "order" || entry["event"] == "close") {
                let is = |name: &str, whose: &str| {
                    entry[name]
                        .as_str()
                        .is_some_and(|found| found.eq_ignore_ascii_case(whose))
                };
                ensure!(
                    is("signed_by", &address(&signer).await?) && is("by", &address(&sender).await?),
                    "who signed and who brought it in: {entry}"
                );
            }
            ensure!(
                entries(&history, "order") == 1 && entries(&history, "close") == 1,
                "{history}"
            );
            let others = balanced(&sender, &first_account(&sender).await?).await?;
            ensure!(entries(&others, "order") == 0, "{others}");
            network.running(0).await.map(drop)
        },
    )
    .await
}

/// Too cheap an update is refused and one that fits is taken; the books follow the workload from lease to lease.
#[tokio::test(flavor = "multi_thread")]
async fn an_updated_lease_is_in_the_history_to_the_unit() -> eyre::Result<()> {
    let soon = |options: &mut devnet::Options| {
        for provider in ["provider-1", "provider-2"] {
            let updates = "\n[updates]\nsteady_for = \"2s\"\ngive_up_after = \"120s\"\n";
            options.extra_config.insert(provider.into(), updates.into());
        }
    };
    on_devnet(Sharing::Shared, soon, async |network| {
        let user = network.user("user-1").await?;
        let account = first_account(&user).await?;
        let text = deployment("image: spheron/hello:1");
        let deployed = network.deployed(&user, &file(network, "app.yaml", &text)?).await?;
        let lease = deployed.order.to_string();

        let cheap = file(network, "cheap.yaml", &text.replacen("amount: 1", "amount: 0.00001", 1))?;
        let said = refused(&user, &["lease", "update", &lease, &cheap.display().to_string()]).await?;
        expect_in(&said, "was refused by provider")?;

        let larger = file(network, "larger.yaml", &text.replacen("units: 0.1", "units: 0.2", 1))?;
        let larger = larger.display().to_string();
        let dry = user.json(&["lease", "update", &lease, &larger, "--dry-run"]).await?;
        let changes = dry["changes"].as_array().into_iter().flatten();
        ensure!(
            dry["sent"] == false && changes.filter(|change| change["field"] == "cpu").count() == 1,
            "{dry}"
        );
        expect_in(
            &refused(&user, &["lease", "update", &lease, "--withdraw"]).await?,
            "is proposed",
        )?;
        let updated = user.json(&["lease", "update", &lease, &larger]).await?;
        let next = updated["lease"]
            .as_str()
            .ok_or_eyre("the lease that runs now")?
            .to_owned();
        ensure!(updated["replaced"] == lease.as_str(), "{updated}");
        // Asked again, it finds the update done.
        let again = user.json(&["lease", "update", &lease, "--resume"]).await?;
        ensure!(again["lease"] == next.as_str(), "{again}");
        // What was paid for beyond the file's duration is not taken away unasked.
        user.json(&["lease", "extend", &next, "--for", "6h"]).await?;
        let dry = user.json(&["lease", "update", &next, &larger, "--dry-run"]).await?;
        ensure!(dry["shorter_by_seconds"].as_u64() > Some(5 * 3_600), "{dry}");
        expect_in(&refused(&user, &["lease", "update", &next, &larger]).await?, "--yes")?;
        let shown = user.json(&["lease", "show", &next]).await?;
        ensure!(
            shown["workload"] == lease.as_str() && shown["manifest"] == "stored",
            "{shown}"
        );

        user.json(&["lease", "close", &next]).await?;
        let history = balanced(&user, &account).await?;
        let told = history["entries"].as_array().into_iter().flatten();
        let refusal = told.clone().find(|entry| entry["event"] == "update_rejected");
        ensure!(refusal.is_some_and(|entry| entry["refused"] == true), "{history}");
        let replaced = told.clone().find(|entry| entry["event"] == "updated");
        ensure!(
            replaced.is_some_and(|entry| entry["order"] == next.as_str() && entry["replaced"] == lease.as_str()),
            "{history}"
        );
        for (event, count) in [
            ("order", 1),
            ("update_rejected", 1),
            ("updated", 1),
            ("lease", 2),
            ("close", 2),
        ] {
            ensure!(
                entries(&history, event) == count,
                "{event} is not told {count} times: {history}"
            );
        }
        network.running(0).await.map(drop)
    })
    .await
}
