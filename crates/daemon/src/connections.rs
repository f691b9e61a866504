//! Who holds how many connections: what every server that strangers may reach asks before it takes one.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts connections in all and per address, within limits.
#[derive(Debug)]
pub struct Connections {
    most: usize,
    most_per_address: usize,
    open: Mutex<Open>,
}

#[derive(Debug, Default)]
struct Open {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub struct Place {
    connections: Arc<Connections>,
    address: IpAddr,
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

impl Connections {
    /// `most` in all, `most_per_address` from one IPv4 address or IPv6 /64.
    pub fn new(most: usize, most_per_address: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            most_per_address,
            open: Mutex::default(),
        })
    }

    /// A place for a connection from `address`.
    ///
    /// # Errors
    /// When there is none.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Place, Full> {
        let address = network_of(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let of_address = open.by_address.get(&address).copied().unwrap_or(0);
        if open.all >= self.most || of_address >= self.most_per_address {
            return Err(Full);
        }
        open.all += 1;
        open.by_address.insert(address, of_address + 1);
        Ok(Place {
            connections: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(count) = open.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.by_address.remove(&self.address);
            }
        }
    }
}

/// What one client can have many of at no cost, as one: a household has one IPv4 address or one IPv6 /64, and within that
/// addresses are free.
pub fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_limited_and_come_back() {
        let connections = Connections::new(3, 2);
        let (one, other) = (
            "192.0.2.1".parse().expect("address"),
            "192.0.2.2".parse().expect("address"),
        );
        let first = connections.take(one).expect("first");
        let _second = connections.take(one).expect("second");
        assert_eq!(connections.take(one).expect_err("third of one address"), Full);
        let _third = connections.take(other).expect("another address");
        assert_eq!(connections.take(other).expect_err("fourth in all"), Full);
        drop(first);
        connections.take(one).expect("came back");
    }

    #[test]
    fn a_neighbouring_ipv6_address_is_the_same_household() {
        let connections = Connections::new(9, 1);
        let _held = connections
            .take("2001:db8::1".parse().expect("address"))
            .expect("first");
        assert_eq!(
            connections
                .take("2001:db8::2".parse().expect("address"))
                .expect_err("same /64"),
            Full
        );
        connections
            .take("2001:db8:0:1::1".parse().expect("address"))
            .expect("another /64");
    }
}
