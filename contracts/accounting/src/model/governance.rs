//! What governance, the registry and the world outside change.

use super::{Market, Refusal, Result, require};
use crate::{Status, Step, Who};

const MOST_PAIRS: usize = 255;

impl Market {
    pub(super) fn govern(&mut self, step: Step) -> Result {
        match step {
            Step::RaiseCapacity {
                caller,
                cpu,
                memory,
                storage,
            } => {
                let id = self.supplier_of(caller).ok_or(Refusal("NotSupplier"))?;
                let supplier = self.suppliers.get_mut(&id).expect("it was looked up");
                supplier.raise(cpu, memory, storage);
            }
            Step::Suspend { supplier, suspended } => {
                let known = self.suppliers.get_mut(&supplier).ok_or(Refusal("UnknownSupplier"))?;
                known.suspended = suspended;
            }
            Step::SetFeeClass { supplier, rebated } => {
                let known = self.suppliers.get_mut(&supplier).ok_or(Refusal("UnknownSupplier"))?;
                known.rebated = rebated;
            }
            Step::AddSchedule {
                caller,
                schedule,
                rebated_commission,
            } => {
                require(caller == Who::Governor, "AccessManagedUnauthorized")?;
                require(schedule.is_allowed(rebated_commission), "fees too high")?;
                require(self.schedules.len() / 2 < MOST_PAIRS, "FeeSchedulesExhausted")?;
                let id = self.schedules.len() as u16 + 2;
                let mut rebated = schedule.clone();
                rebated.commission = rebated_commission;
                self.schedules.insert(id, schedule);
                self.schedules.insert(id | 1, rebated);
            }
            Step::SetTokenSchedule { token, schedule } => {
                let is_base = schedule.is_multiple_of(2) && self.schedules.contains_key(&schedule);
                require(is_base, "UnknownFeeSchedule")?;
                let stood = self.standing_updates();
                self.token_mut(token)?.schedule = schedule;
                let stand = self.standing_updates();
                if !stood.is_subset(&stand) {
                    self.note("update fell with the token's fees");
                }
                if !stand.is_subset(&stood) {
                    self.note("update stands again at its fees");
                }
            }
            Step::SetTokenStatus { token, status } => {
                // Pausing is the guardian's, by another call.
                require(status != Status::Paused, "InvalidStatus")?;
                self.token_mut(token)?.status = status;
            }
            Step::PauseToken { token } => {
                let listed = self.token_mut(token)?;
                require(listed.status == Status::Enabled, "InvalidStatus")?;
                listed.status = Status::Paused;
            }
            Step::SetTokenCap { token, cap } => self.token_mut(token)?.cap = cap.into(),
            Step::SetFoundation { to } => {
                require(!to.receives_nothing(), "InvalidRecipient")?;
                self.foundation = to;
            }
            Step::SetPrice {
                token,
                answer,
                updated_at,
                broken,
            } => {
                let feed = &mut self.token_mut(token)?.feed;
                (feed.answer, feed.updated_at, feed.broken) = (answer, updated_at, broken);
            }
            Step::KeepPrice { token } => {
                let now = self.now;
                let listed = self.token_mut(token)?;
                let price = listed.feed.price(now).ok_or(Refusal("NoUsablePrice"))?;
                listed.kept_price = Some((price, listed.feed.updated_at));
            }
            Step::SetTopGpus { ids } => self.top_gpus = ids.into_iter().collect(),
            Step::PauseMarket { paused } => self.paused = paused,
            other => unreachable!("{other:?} is done elsewhere"),
        }
        Ok(())
    }

    fn token_mut(&mut self, token: u8) -> Result<&mut super::Token> {
        self.tokens.get_mut(usize::from(token)).ok_or(Refusal("UnknownTokenId"))
    }
}
