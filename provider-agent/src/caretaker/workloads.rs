//! Leases by the workload they run: updates put one lease in another's place.

use std::collections::BTreeMap;

use workload::LeaseId;

use crate::store::Lease;

/// The leases that run or ran one workload.
#[derive(Debug, Clone, Default)]
pub(super) struct Workload {
    leases: Vec<Lease>,
}

impl Workload {
    /// Which lease decides: the one that lives, else the one that ended last, else the one that was taken away last. On one
    /// chain at most one of them lives.
    pub(super) fn current(&self) -> Option<&Lease> {
        self.leases.iter().max_by_key(|lease| {
            let rank = match (lease.leased, lease.undone_block) {
                (Some(leased), _) => match leased.closed {
                    None => (3, leased.block),
                    Some(closed) => (2, closed.block),
                },
                (None, Some(undone)) => (1, undone),
                (None, None) => (0, 0),
            };
            (rank, lease.id)
        })
    }

    /// Leases in whose place another one has been for so long that no reorganisation brings them back.
    pub(super) fn superseded(&self, head: u64, depth: u64) -> impl Iterator<Item = &Lease> {
        let current = self.current();
        let settled = current
            .filter(|current| current.is_live())
            .and_then(|current| current.leased)
            .filter(|leased| head >= leased.block + depth);
        let current = current.map(|current| current.id);
        self.leases
            .iter()
            .filter(move |lease| settled.is_some() && Some(lease.id) != current && !lease.removed)
    }
}

/// Puts leases together by their workload.
pub(super) fn by_workload(leases: Vec<Lease>) -> BTreeMap<LeaseId, Workload> {
    let mut workloads: BTreeMap<LeaseId, Workload> = BTreeMap::new();
    for lease in leases {
        workloads.entry(lease.workload).or_default().leases.push(lease);
    }
    workloads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caretaker::tests::any_terms;
    use crate::store::{Closed, Leased};

    fn lease(id: u64, workload: u64, leased: Option<(u64, Option<u64>)>, undone_block: Option<u64>) -> Lease {
        Lease {
            id: LeaseId(id),
            workload: LeaseId(workload),
            terms: any_terms(),
            duration: 60,
            leased: leased.map(|(block, closed)| Leased {
                block,
                start: block,
                closed: closed.map(|block| Closed { block, reason: 13 }),
            }),
            undone_block,
            was_applied: false,
            ready: false,
            removed: false,
            paid: false,
            switched_at: None,
            setback: None,
        }
    }

    fn current(leases: Vec<Lease>) -> Vec<(u64, Option<u64>)> {
        by_workload(leases)
            .into_iter()
            .map(|(id, workload)| (id.0, workload.current().map(|lease| lease.id.0)))
            .collect()
    }

    #[test]
    fn the_lease_that_lives_decides_else_the_last_to_end() {
        let updated = vec![
            lease(1, 1, Some((5, Some(9))), None),
            lease(2, 1, Some((9, None)), None),
        ];
        assert_eq!(current(updated.clone()), [(1, Some(2))]);
        let with_another = [updated, vec![lease(3, 3, Some((6, None)), None)]].concat();
        assert_eq!(current(with_another), [(1, Some(2)), (3, Some(3))]);
        let both_ended = vec![
            lease(1, 1, Some((5, Some(9))), None),
            lease(2, 1, Some((9, Some(12))), None),
        ];
        assert_eq!(current(both_ended), [(1, Some(2))]);
        // A reorganisation took the update away: the first lease lives again.
        let undone = vec![lease(1, 1, Some((5, None)), None), lease(2, 1, None, Some(8))];
        assert_eq!(current(undone), [(1, Some(1))]);
        assert_eq!(
            current(vec![lease(1, 1, None, Some(4)), lease(2, 1, None, Some(8))]),
            [(1, Some(2))]
        );
    }

    #[test]
    fn a_replaced_lease_is_let_go_at_depth_only() {
        let leases = vec![
            lease(1, 1, Some((5, Some(9))), None),
            lease(2, 1, Some((9, None)), None),
        ];
        let workload = by_workload(leases).remove(&LeaseId(1)).expect("there");
        let superseded = |head| workload.superseded(head, 4).map(|lease| lease.id.0).collect::<Vec<_>>();
        assert_eq!(superseded(12), [0u64; 0]);
        assert_eq!(superseded(13), [1]);
        let ended = vec![
            lease(1, 1, Some((5, Some(9))), None),
            lease(2, 1, Some((9, Some(10))), None),
        ];
        let workload = by_workload(ended).remove(&LeaseId(1)).expect("there");
        assert_eq!(
            workload.superseded(100, 4).count(),
            0,
            "what runs is removed with all its leases"
        );
    }
}
