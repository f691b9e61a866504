//! A step as it is done on chain.

mod accounts;
mod leases;
mod orders;

use accounting::{Part, Signed, Step, Who, model::Market};
use alloy_primitives::{Address, Bytes, U256};
use alloy_sol_types::{SolCall, SolStruct};

use crate::{
    abi::{IEscrow, IOrderBook, IPaymentTokens, IProviderRegistry},
    chain::{Chain, Refused},
    feed::put_answer,
    market::{Addresses, PROVIDER_1, PROVIDER_2, set_fee_class},
    words::{capacity_word, domain, fee_schedule, signature, signer_of},
};

/// From whom, to which contract, and what it is asked.
type Call = (Address, Address, Vec<u8>);

/// A step on its way to the chain. `model` is the market before it.
#[derive(Debug)]
pub(crate) struct Calls<'a> {
    pub(crate) addresses: &'a Addresses,
    pub(crate) model: &'a Market,
}

impl Calls<'_> {
    /// Does the step, or says why the chain refused it.
    pub(crate) fn run(&self, chain: &mut Chain, step: &Step) -> Result<(), Refused> {
        match step {
            Step::Wait { .. } => Ok(()),
            Step::SetPrice {
                token,
                answer,
                updated_at,
                broken,
            } => {
                let mut feed = self.model.tokens[usize::from(*token)].feed.clone();
                (feed.answer, feed.updated_at, feed.broken) = (*answer, *updated_at, *broken);
                put_answer(chain, self.addresses.feeds[usize::from(*token)], &feed);
                Ok(())
            }
            Step::SetFeeClass { supplier, rebated } => {
                set_fee_class(chain, self.addresses, *supplier, *rebated).map(drop)
            }
            step => {
                let (from, to, data) = self.call(step);
                chain.send(from, to, data).map(drop)
            }
        }
    }

    fn call(&self, step: &Step) -> Call {
        match step.part() {
            Part::Time => unreachable!("time passes by itself"),
            Part::Deposits => self.deposit_call(step),
            Part::Accounts => self.account_call(step),
            Part::Orders => self.order_call(step),
            Part::Leases => self.lease_call(step),
            Part::Endings => self.ending_call(step),
            Part::Updates => self.update_call(step),
            Part::Suppliers => self.supplier_call(step),
            Part::Governance => self.governance_call(step),
        }
    }

    fn of(&self, who: Who) -> Address {
        self.addresses.of(who)
    }

    fn token(&self, id: u8) -> Address {
        self.addresses.tokens[usize::from(id)]
    }

    fn signature(&self, signed: &Signed, request: &impl SolStruct) -> Bytes {
        let digest = request.eip712_signing_hash(&domain("Spheron Market", self.addresses.book));
        signature(signer_of(signed.signer, signed.forged), digest)
    }

    fn supplier_call(&self, step: &Step) -> Call {
        match step {
            Step::RaiseCapacity {
                caller,
                cpu,
                memory,
                storage,
            } => {
                let id = self.model.supplier_of(*caller);
                let mut supplier = self.model.suppliers[&id.unwrap_or(PROVIDER_1)].clone();
                supplier.raise(*cpu, *memory, *storage);
                supplier.suspended = false;
                let call = IOrderBook::setCapacityCall {
                    capacity: capacity_word(&supplier),
                };
                (self.of(*caller), self.addresses.book, call.abi_encode())
            }
            Step::Suspend { supplier, suspended } => self.suspend(*supplier, *suspended),
            other => unreachable!("{other:?} is no step of suppliers"),
        }
    }

    fn suspend(&self, supplier: u32, suspended: bool) -> Call {
        if supplier == PROVIDER_1 || supplier == PROVIDER_2 {
            let call = if suspended {
                IProviderRegistry::suspendCall { id: supplier }.abi_encode()
            } else {
                IProviderRegistry::reinstateCall { id: supplier }.abi_encode()
            };
            return (self.of(Who::Governor), self.addresses.registry, call);
        }
        let call = IOrderBook::suspendCall { supplier, suspended };
        (self.addresses.registry, self.addresses.book, call.abi_encode())
    }

    fn governance_call(&self, step: &Step) -> Call {
        let governor = self.of(Who::Governor);
        let Addresses { book, escrow, .. } = *self.addresses;
        match step {
            Step::AddSchedule {
                caller,
                schedule,
                rebated_commission,
            } => {
                let call = IEscrow::addFeeScheduleCall {
                    schedule: fee_schedule(schedule),
                    rebatedCommission: *rebated_commission as u16,
                };
                (self.of(*caller), escrow, call.abi_encode())
            }
            Step::SetFoundation { to } => {
                let call = IEscrow::setFoundationCall {
                    newFoundation: self.of(*to),
                };
                (governor, escrow, call.abi_encode())
            }
            Step::SetTopGpus { ids } => {
                let ids = ids
                    .iter()
                    .fold(U256::ZERO, |bits, id| bits | U256::ONE << usize::from(*id));
                (governor, book, IOrderBook::setTopGpusCall { ids }.abi_encode())
            }
            Step::PauseMarket { paused: true } => (governor, book, IOrderBook::pauseCall {}.abi_encode()),
            Step::PauseMarket { paused: false } => (governor, book, IOrderBook::unpauseCall {}.abi_encode()),
            step => (governor, self.addresses.payment_tokens, listing_call(step)),
        }
    }
}

fn listing_call(step: &Step) -> Vec<u8> {
    match step {
        Step::SetTokenSchedule { token, schedule } => {
            let call = IPaymentTokens::setFeeScheduleCall {
                id: *token,
                feeSchedule: *schedule,
            };
            call.abi_encode()
        }
        Step::SetTokenStatus { token, status } => {
            let status = IPaymentTokens::Status::try_from(*status as u8).expect("a status of the interface");
            IPaymentTokens::setStatusCall { id: *token, status }.abi_encode()
        }
        Step::PauseToken { token } => IPaymentTokens::pauseTokenCall { id: *token }.abi_encode(),
        Step::KeepPrice { token } => IPaymentTokens::keepPriceCall { id: *token }.abi_encode(),
        Step::SetTokenCap { token, cap } => IPaymentTokens::setCapCall { id: *token, cap: *cap }.abi_encode(),
        other => unreachable!("{other:?} is no step of listings"),
    }
}
