//! What suppliers, governance and the world outside do.

use super::{Generator, is_at_other_fees};
use crate::{
    Status, Step, Who,
    model::{Market, Schedule},
};

impl Generator {
    pub(super) fn raise_capacity(&mut self, market: &Market) -> Option<Step> {
        let caller = self
            .source
            .pick(&[Who::Provider1, Who::Provider2, Who::Fizz1, Who::Fizz2, Who::Alice]);
        let supplier = &market.suppliers[&market.supplier_of(caller).unwrap_or(1)];
        let mut more = |total: u32| (total + self.source.within(0, 500) as u32).min(1 << 19);
        Some(Step::RaiseCapacity {
            caller,
            cpu: more(supplier.cpu.total),
            memory: more(supplier.memory.total),
            storage: more(supplier.storage.total),
        })
    }

    pub(super) fn suspend(&mut self, market: &Market) -> Option<Step> {
        let suspended = market
            .suppliers
            .iter()
            .find(|(_, supplier)| supplier.suspended)
            .map(|(id, _)| *id);
        Some(match suspended {
            Some(supplier) if self.source.chance(80) => Step::Suspend {
                supplier,
                suspended: false,
            },
            _ => Step::Suspend {
                supplier: self.source.pick(&[1, 2, 900, 901, 77]),
                suspended: true,
            },
        })
    }

    pub(super) fn set_fee_class(&mut self, _: &Market) -> Option<Step> {
        Some(Step::SetFeeClass {
            supplier: self.source.pick(&[1, 2, 900, 901, 901, 77]),
            rebated: self.source.chance(50),
        })
    }

    pub(super) fn add_schedule(&mut self, _: &Market) -> Option<Step> {
        let commission = self.source.pick(&[0, 1, 1_000, 2_000, 2_101, 2_500]);
        let rest = 2_500 - commission;
        let user_fee = self.source.within(0, rest) as u32;
        let over = u64::from(self.source.chance(10));
        let provider_fee = self.source.within(0, rest - u64::from(user_fee) + over) as u32;
        let power = 10_u128.pow(self.source.within(0, 18) as u32);
        Some(Step::AddSchedule {
            caller: if self.source.chance(95) {
                Who::Governor
            } else {
                Who::Alice
            },
            schedule: Schedule {
                commission: commission as u32,
                user_fee,
                provider_fee,
                gateway_share: self.source.pick(&[0, 1, 3_333, 5_000, 5_000, 5_001]),
                match_fee: self.source.pick(&[0, 1, 99, 123_450, 1_048_575, 1_048_577]) * power,
            },
            rebated_commission: self.source.within(0, commission + over) as u32,
        })
    }

    pub(super) fn set_token_schedule(&mut self, market: &Market) -> Option<Step> {
        let highest = market.schedules.len() as u64 / 2;
        let even = 2 * self.source.within(1, highest) as u16;
        Some(Step::SetTokenSchedule {
            token: self.some_token(),
            schedule: match self.source.within(0, 14) {
                0 => even | 1,
                1 => 0,
                2 => 2 * highest as u16 + 2,
                _ => even,
            },
        })
    }

    /// Other fees than an update was proposed at, or those again.
    pub(super) fn change_fees_of_update(&mut self, market: &Market) -> Option<Step> {
        let (id, proposal) = self.some_proposed(market, |_, _| true)?;
        let highest = market.schedules.len() as u64 / 2;
        let is_other = is_at_other_fees(market, &market.orders[&id], &proposal);
        Some(Step::SetTokenSchedule {
            token: (id >> 24) as u8,
            schedule: if is_other {
                proposal.schedule
            } else {
                2 * self.source.within(1, highest) as u16
            },
        })
    }

    pub(super) fn set_token_status(&mut self, market: &Market) -> Option<Step> {
        let stopped = market.tokens.iter().position(|token| token.status != Status::Enabled);
        Some(match stopped {
            Some(token) if self.source.chance(85) => Step::SetTokenStatus {
                token: token as u8,
                status: Status::Enabled,
            },
            _ => Step::SetTokenStatus {
                token: self.some_token(),
                status: self.source.pick(&[Status::Enabled, Status::Delisted, Status::Paused]),
            },
        })
    }

    pub(super) fn pause_token(&mut self, _: &Market) -> Option<Step> {
        Some(Step::PauseToken {
            token: self.some_token(),
        })
    }

    pub(super) fn set_token_cap(&mut self, market: &Market) -> Option<Step> {
        let token = self.some_token();
        let held = market.holdings.get(&(Who::Escrow, token)).cloned().unwrap_or_default();
        let held = u128::try_from(&held).unwrap_or(u128::MAX);
        Some(Step::SetTokenCap {
            token,
            cap: self.source.pick(&[held, 2 * held, u128::MAX, u128::MAX, u128::MAX, 0]),
        })
    }

    pub(super) fn set_foundation(&mut self, _: &Market) -> Option<Step> {
        Some(Step::SetFoundation {
            to: self.source.pick(&[
                Who::Foundation1,
                Who::Foundation2,
                Who::Foundation2,
                Who::Nobody,
                Who::Escrow,
            ]),
        })
    }

    pub(super) fn set_price(&mut self, market: &Market) -> Option<Step> {
        let token = self.some_token();
        let feed = &market.tokens[usize::from(token)].feed;
        let usual = (feed.maximum / 100).max(1);
        let answer = match self.source.within(0, 19) {
            0 => feed.minimum,
            1 => feed.minimum - 1,
            2 => feed.maximum,
            3 => feed.maximum + 1,
            4 => -usual,
            5 => 0,
            6..=12 => self.source.between(1, 20 * usual.unsigned_abs()) as i128 / 10 + 1,
            _ => usual,
        };
        let updated_at = match self.source.within(0, 19) {
            0 => 0,
            1 => market.now + 1,
            2 => market.now - feed.heartbeat,
            3 => market.now - feed.heartbeat - 1,
            _ => market.now,
        };
        Some(Step::SetPrice {
            token,
            answer,
            updated_at,
            broken: self.source.chance(4),
        })
    }

    pub(super) fn keep_price(&mut self, _: &Market) -> Option<Step> {
        Some(Step::KeepPrice {
            token: self.some_token(),
        })
    }

    pub(super) fn set_top_gpus(&mut self, _: &Market) -> Option<Step> {
        let ids = match self.source.within(0, 3) {
            0 => vec![],
            1 => vec![9],
            2 => vec![3, 9],
            _ => vec![7, 9],
        };
        Some(Step::SetTopGpus { ids })
    }

    pub(super) fn pause_market(&mut self, market: &Market) -> Option<Step> {
        let paused = if self.source.chance(95) {
            !market.paused
        } else {
            market.paused
        };
        Some(Step::PauseMarket { paused })
    }
}
