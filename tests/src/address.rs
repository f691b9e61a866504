//! Addresses that a test gives this machine for a while, so that nothing it sends there leaves the machine.

use std::net::Ipv4Addr;
use std::process::Command;

use eyre::{WrapErr as _, ensure};

/// An address on the loopback device, removed with the value.
#[derive(Debug)]
pub struct LocalAddress(Ipv4Addr);

impl LocalAddress {
    /// Adds the address.
    pub fn add(address: Ipv4Addr) -> eyre::Result<Self> {
        let output = Command::new("ip")
            .args(["addr", "add", &format!("{address}/32"), "dev", "lo"])
            .output()
            .wrap_err("cannot run ip (Debian package iproute2): run script/setup")?;
        ensure!(
            output.status.success(),
            "cannot give this machine the address {address}, which takes root: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(Self(address))
    }

    pub fn ip(&self) -> Ipv4Addr {
        self.0
    }
}

impl Drop for LocalAddress {
    fn drop(&mut self) {
        // Nothing depends on it any more; what cannot be removed only stays on the loopback device.
        let _ = Command::new("ip")
            .args(["addr", "del", &format!("{}/32", self.0), "dev", "lo"])
            .output();
    }
}
