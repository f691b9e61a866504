//! How much compute a deposit entitles to (whitepaper 4.6.3), as `market/Brackets.sol` counts it: bracket 1 takes 15 dollars in
//! the account, and every further one is twice the dollars for twice the resources of one order.

use alloy::primitives::U256;
use avs::words::Resources;
use serde_json::{Value, json};

/// From here on everything is allowed.
const HIGHEST: u8 = 32;
/// Dollars of bracket 1.
const FIRST_DOLLARS: u64 = 15;
/// What a top GPU counts for.
const TOP_GPU_COUNTS: u32 = 4;

/// CPUs, GiB of memory and GiB of storage of bracket 1, without and with a GPU; and their units in the resource word.
const WITHOUT_GPU: [u64; 3] = [8, 32, 512];
const WITH_GPU: [u64; 3] = [32, 128, 1_024];
const UNITS: [u64; 3] = [100, 64, 4];

/// Lowest bracket whose orders may ask for these resources. `top` is the network's bitmap of top GPU ids.
pub(crate) fn needed(resources: &Resources, top: U256) -> u8 {
    let asked = [resources.cpu, resources.memory, resources.storage].map(u64::from);
    let allowed = if resources.gpu_count == 0 {
        WITHOUT_GPU
    } else {
        WITH_GPU
    };
    let accepts_top = resources.gpus.iter().any(|id| top.bit(usize::from(id)));
    let gpus = u32::from(resources.gpu_count) * if accepts_top { TOP_GPU_COUNTS } else { 1 };
    let fits = |bracket: u8| {
        let steps = u32::from(bracket - 1);
        let enough = (0..3).all(|index| asked[index] <= (allowed[index] * UNITS[index]) << steps);
        enough && gpus <= 1 << steps.min(31)
    };
    (1..HIGHEST).find(|bracket| fits(*bracket)).unwrap_or(HIGHEST)
}

/// Whole dollars that an account must hold in one token for a bracket.
pub(crate) fn dollars(bracket: u8) -> u64 {
    match bracket {
        0 => 0,
        bracket => FIRST_DOLLARS << u32::from(bracket - 1).min(40),
    }
}

/// What one order may ask for under a bracket, for people.
pub(crate) fn entitlement(bracket: u8) -> String {
    if bracket == 0 {
        return format!("nothing yet: an account needs {FIRST_DOLLARS} dollars of the token to order");
    }
    if bracket >= HIGHEST {
        return "anything".to_owned();
    }
    let steps = u32::from(bracket - 1);
    let [cpu, memory, storage] = WITHOUT_GPU.map(|amount| amount << steps);
    let [gpu_cpu, gpu_memory, gpu_storage] = WITH_GPU.map(|amount| amount << steps);
    let gpus = 1u64 << steps;
    let top = match gpus / u64::from(TOP_GPU_COUNTS) {
        0 => "none of them a top model".to_owned(),
        top => format!("of a top model {top}"),
    };
    format!(
        "an order of up to {cpu} CPU, {memory} GiB memory, {storage} GiB storage; with GPUs up to {gpus} ({top}), {gpu_cpu} CPU, \
         {gpu_memory} GiB memory, {gpu_storage} GiB storage"
    )
}

/// What to do about an account whose money entitles to more at today's price than its bracket: the price rose, or a withdrawal,
/// which lowers the bracket without asking for a price, was interrupted before it was set again.
pub(crate) fn advice(account: u32, symbol: &str, has: u8, today: Option<u8>) -> Option<String> {
    let today = today.filter(|today| *today > has)?;
    Some(format!(
        "its {symbol} has bracket {has} and entitles to bracket {today} at today's price: run `spheron account update-bracket --account \
         {account} --token {symbol}`"
    ))
}

/// [`entitlement`] for programs.
pub(crate) fn entitlement_json(bracket: u8) -> Value {
    let steps = u32::from(bracket.clamp(1, HIGHEST) - 1);
    let [cpu, memory, storage] = WITHOUT_GPU.map(|amount| amount << steps);
    let [gpu_cpu, gpu_memory, gpu_storage] = WITH_GPU.map(|amount| amount << steps);
    let amounts = |cpu, memory, storage| json!({"cpu": cpu, "memory_gib": memory, "storage_gib": storage});
    json!({
        "bracket": bracket,
        "dollars": dollars(bracket),
        "text": entitlement(bracket),
        "without_gpu": (bracket > 0).then(|| amounts(cpu, memory, storage)),
        "with_gpu": (bracket > 0).then(|| amounts(gpu_cpu, gpu_memory, gpu_storage)),
        "gpus": if bracket == 0 { 0 } else { 1u64 << steps },
        "top_gpus": if bracket == 0 { 0 } else { (1u64 << steps) / u64::from(TOP_GPU_COUNTS) },
    })
}

#[cfg(test)]
mod tests {
    use avs::words::GpuSet;

    use super::*;

    fn asked(cpu: u32, memory_gib: u32, storage_gib: u32, gpus: u16, ids: &[u8]) -> Resources {
        Resources {
            storage: storage_gib * 4,
            memory: memory_gib * 64,
            cpu: cpu * 100,
            gpu_count: gpus,
            gpus: GpuSet::from_ids(ids.iter().copied()).expect("ids"),
        }
    }

    #[test]
    fn the_ladder_is_the_contracts() {
        let top = U256::from(1) << 9;
        let needs = |resources: Resources| needed(&resources, top);
        assert_eq!(needs(asked(8, 32, 512, 0, &[])), 1);
        assert_eq!(
            needs(Resources {
                cpu: 801,
                ..asked(8, 32, 512, 0, &[])
            }),
            2
        );
        assert_eq!(
            needs(Resources {
                memory: 2_049,
                ..asked(8, 32, 512, 0, &[])
            }),
            2
        );
        assert_eq!(
            needs(Resources {
                storage: 4_097,
                ..asked(8, 32, 512, 0, &[])
            }),
            3
        );
        assert_eq!(needs(asked(32, 128, 1_024, 1, &[3])), 1);
        assert_eq!(needs(asked(33, 128, 1_024, 1, &[3])), 2);
        assert_eq!(needs(asked(1, 1, 1, 3, &[3])), 3);
        // One that accepts a top model may get it, and it counts four times.
        assert_eq!(needs(asked(1, 1, 1, 1, &[3, 9])), 3);
        assert_eq!(needs(asked(1, 1, 1, 2, &[9])), 4);
        let most = Resources {
            cpu: (1 << 22) - 1,
            memory: (1 << 22) - 1,
            storage: (1 << 22) - 1,
            gpu_count: 1_023,
            gpus: GpuSet::from_ids([9]).expect("ids"),
        };
        assert!(needs(most) < HIGHEST);
    }

    #[test]
    fn an_account_whose_bracket_is_too_low_is_told_what_raises_it() {
        let told = advice(7, "uSPON", 5, Some(6)).expect("too low");
        assert!(told.contains("bracket 5") && told.contains("bracket 6"), "{told}");
        assert!(
            told.contains("`spheron account update-bracket --account 7 --token uSPON`"),
            "{told}"
        );
        assert_eq!(advice(7, "uSPON", 6, Some(6)), None);
        // A price that fell takes nothing away.
        assert_eq!(advice(7, "uSPON", 6, Some(5)), None);
        assert_eq!(advice(7, "uSPON", 6, None), None);
    }

    #[test]
    fn brackets_have_a_price_and_a_sentence() {
        assert_eq!([0, 1, 2, 5].map(dollars), [0, 15, 30, 240]);
        assert!(entitlement(0).contains("15 dollars"));
        assert!(entitlement(1).contains("up to 8 CPU, 32 GiB memory, 512 GiB storage"));
        assert!(entitlement(3).contains("up to 4 (of a top model 1), 128 CPU"));
        assert_eq!(entitlement_json(2)["without_gpu"]["cpu"], 16);
        assert_eq!(entitlement_json(0)["without_gpu"], Value::Null);
    }
}
