//! The kernel's keyring: the real one, where the machine running this has one.

use linux_keyutils::{KeyRing, KeyRingIdentifier};

use crate::store::keyring;

#[test]
fn a_key_of_the_users_keyring_is_read_and_a_missing_one_is_told() {
    // Containers often forbid keyrings: there is nothing to test then, and the store says so.
    let Ok(ring) = KeyRing::from_special_id(KeyRingIdentifier::User, true) else {
        assert!(keyring::read("moat-test", "none").is_err());
        return;
    };
    let account = format!("unit-{}", std::process::id());
    let missing = keyring::read("moat-test", &account)
        .unwrap_err()
        .to_string();
    assert!(missing.contains("keyctl padd"), "{missing}");
    let description = format!("moat-test:{account}");
    ring.add_key(&description, "canary-value-1").unwrap();
    let got = keyring::read("moat-test", &account);
    let other = keyring::read("moat-test", "another");
    let key = ring.add_key(&description, &"x".repeat(9000)).unwrap();
    let long = keyring::read("moat-test", &account);
    key.update(&"two words 1").unwrap();
    let spaced = keyring::read("moat-test", &account);
    key.revoke().unwrap();
    let revoked = keyring::read("moat-test", &account);
    ring.unlink_key(key).unwrap();
    assert_eq!(got.unwrap().expose(), "canary-value-1");
    assert!(other.is_err());
    for (refused, word) in [(long, "longer"), (spaced, "white space"), (revoked, "")] {
        let told = refused.unwrap_err().to_string();
        assert!(told.contains(word) && !told.contains("canary"), "{told}");
    }
}
