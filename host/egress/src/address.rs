//! Which addresses a guest may be connected to: every spelling of an address falls into one class.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far away an address is, from the most to the least harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// A host on the internet.
    Public,
    /// This machine or its network: only where the machine's owner says so.
    Private,
    /// Nothing that a request has business with, whatever anybody says: metadata services, link-local, multicast, unassigned.
    Never,
}

use Class::{Never, Private, Public};

/// The first line that holds an address decides; what no line holds is public.
const V4: &[([u8; 4], u32, Class)] = &[
    // Metadata services outside of link-local (Alibaba, Azure, Oracle): before the ranges that they lie in.
    ([100, 100, 100, 200], 32, Never),
    ([168, 63, 129, 16], 32, Never),
    ([192, 0, 0, 192], 32, Never),
    ([0, 0, 0, 0], 8, Never),
    ([10, 0, 0, 0], 8, Private),
    ([100, 64, 0, 0], 10, Private),
    ([127, 0, 0, 0], 8, Private),
    ([169, 254, 0, 0], 16, Never),
    ([172, 16, 0, 0], 12, Private),
    ([192, 0, 0, 0], 24, Never),
    ([192, 0, 2, 0], 24, Never),
    ([192, 88, 99, 0], 24, Never),
    ([192, 168, 0, 0], 16, Private),
    ([198, 18, 0, 0], 15, Private),
    ([198, 51, 100, 0], 24, Never),
    ([203, 0, 113, 0], 24, Never),
    ([224, 0, 0, 0], 3, Never),
];

/// As [`V4`]; what no line holds is public if it is global unicast (2000::/3), and otherwise never.
const V6: &[([u16; 8], u32, Class)] = &[
    ([0, 0, 0, 0, 0, 0, 0, 1], 128, Private),
    // Metadata services (AWS, Google, Oracle, Scaleway and others) in the private range.
    ([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0], 32, Never),
    ([0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254], 128, Never),
    ([0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe], 128, Never),
    ([0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42], 128, Never),
    ([0xfd00, 0xa9fe, 0xa9fe, 0, 0, 0, 0, 1], 128, Never),
    ([0xfd00, 0x100, 0, 0, 0, 0, 0x100, 0x200], 128, Never),
    ([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7, Private),
    // Protocol assignments; among them Teredo, which carries a disguised IPv4 address.
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23, Never),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32, Never),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20, Never),
];

/// NAT64: the IPv4 address is in the last 32 bits.
const NAT64: [u16; 8] = [0x64, 0xff9b, 0, 0, 0, 0, 0, 0];

/// The class of an address, whatever it is wrapped in.
pub(crate) fn class(ip: IpAddr) -> Class {
    match ip.to_canonical() {
        IpAddr::V4(ip) => class_v4(ip),
        IpAddr::V6(ip) => class_v6(ip),
    }
}

fn class_v4(ip: Ipv4Addr) -> Class {
    let held = |base: [u8; 4], bits: u32| {
        (ip.to_bits() ^ Ipv4Addr::from(base).to_bits()).leading_zeros() >= bits
    };
    V4.iter()
        .find(|(base, bits, _)| held(*base, *bits))
        .map_or(Public, |(_, _, class)| *class)
}

fn class_v6(ip: Ipv6Addr) -> Class {
    let held = |base: [u16; 8], bits: u32| {
        (ip.to_bits() ^ Ipv6Addr::from(base).to_bits()).leading_zeros() >= bits
    };
    let global = held([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
    let own = match V6.iter().find(|(base, bits, _)| held(*base, *bits)) {
        Some((_, _, class)) => *class,
        None if global || held(NAT64, 96) => Public,
        None => Never,
    };
    own.max(embedded(ip).map_or(Public, class_v4))
}

/// The IPv4 address that a gateway would take out of this one.
fn embedded(ip: Ipv6Addr) -> Option<Ipv4Addr> {
    let parts = ip.segments();
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    let last = of(parts[6], parts[7]);
    match parts {
        // Mapped, compatible, translated: `::ffff:a.b.c.d`, `::a.b.c.d`, `::ffff:0:a.b.c.d`.
        [0, 0, 0, 0, 0, 0xffff, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => Some(last),
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => Some(last),
        [0x64, 0xff9b, 0, 0, 0, 0, ..] => Some(last),
        [0x2002, high, low, ..] => Some(of(high, low)),
        // ISATAP, below any prefix.
        [_, _, _, _, 0 | 0x200, 0x5efe, ..] => Some(last),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests may stop at the first surprise")]
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Class {
        class(text.parse().unwrap())
    }

    #[test]
    fn every_range_is_in_its_class_up_to_its_edges() {
        let never = [
            "0.0.0.0",
            "0.255.255.255",
            "169.254.0.0",
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "192.0.0.1",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.255",
            "192.88.99.1",
            "224.0.0.1",
            "239.255.255.255",
            "240.0.0.0",
            "255.255.255.255",
            "::",
            "::2",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "100::1",
            "5f00::1",
            "2001::1",
            "2001:10::1",
            "2001:db8::1",
            "3fff::1",
            "64:ff9b:1::a00:1",
            "fd00:ec2::254",
            "fd00:ec2:ffff::1",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "fd00:a9fe:a9fe::1",
            "fd00:100::100:200",
        ];
        let private = [
            "10.0.0.0",
            "10.255.255.255",
            "100.64.0.0",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.255",
            "172.16.0.0",
            "172.31.255.255",
            "192.168.0.0",
            "192.168.255.255",
            "198.18.0.0",
            "198.19.255.255",
            "::1",
            "fc00::1",
            "fd12:3456::1",
            "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        let public = [
            "1.1.1.1",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "168.63.129.17",
            "169.253.255.255",
            "169.255.0.0",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2001:200::1",
        ];
        for (texts, class) in [
            (&never[..], Never),
            (&private[..], Private),
            (&public[..], Public),
        ] {
            for text in texts {
                assert_eq!(of(text), class, "{text}");
            }
        }
    }

    #[test]
    fn an_address_inside_another_is_found() {
        for (text, expected) in [
            ("::ffff:127.0.0.1", Private),
            ("::ffff:7f00:1", Private),
            ("::ffff:169.254.169.254", Never),
            ("::ffff:1.1.1.1", Public),
            ("::127.0.0.1", Never),
            ("::1.1.1.1", Never),
            ("::ffff:0:127.0.0.1", Never),
            ("64:ff9b::7f00:1", Private),
            ("64:ff9b::a9fe:a9fe", Never),
            ("64:ff9b::101:101", Public),
            ("2002:7f00:1::", Private),
            ("2002:a9fe:a9fe::1", Never),
            ("2002:101:101::", Public),
            ("2606:4700::5efe:a00:1", Private),
            ("2606:4700::200:5efe:a9fe:a9fe", Never),
            ("2001:0:4136:e378:8000:63bf:80ff:fffe", Never),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_wrapping_makes_an_address_more_harmless(bits: u32, prefix: u64) {
            let ip = Ipv4Addr::from_bits(bits);
            let bare = class_v4(ip);
            let low = u128::from(bits);
            let isatap = u128::from(prefix) << 64 | 0x5efe_u128 << 32 | low;
            for wrapped in [
                0xffff_u128 << 32 | low,
                0xffff_u128 << 48 | low,
                0x0064_ff9b_u128 << 96 | low,
                0x2002_u128 << 112 | low << 80 | u128::from(prefix),
                isatap,
                isatap | 0x0200_u128 << 48,
            ] {
                let wrapped = Ipv6Addr::from_bits(wrapped);
                prop_assert!(class(wrapped.into()) >= bare, "{wrapped}");
            }
            if bits > 1 {
                prop_assert_eq!(class(Ipv6Addr::from_bits(low).into()), Never);
            }
        }
    }
}
