//! Secrets in the keyring that the Linux kernel keeps for a user, as `keyctl padd user SERVICE:ACCOUNT @u` puts them there.
//!
//! Desktop keyrings (the Secret Service) are asked through `command`, by their own `secret-tool`: their libraries bring a whole D-Bus client.

use linux_keyutils::{KeyError, KeyRing, KeyRingIdentifier};
use zeroize::Zeroizing;

use crate::secret::{RAW_BYTES_MAX, Secret};
use crate::secrets::Unavailable;

/// The payload of the key `SERVICE:ACCOUNT`, from the session's keyring or the user's.
pub(crate) fn read(service: &str, account: &str) -> Result<Secret, Unavailable> {
    let key = format!("{service}:{account}");
    let failed = |error| Unavailable::Keyring {
        key: key.clone(),
        why: why(error),
    };
    let payload = apart(&key).map_err(failed)?;
    Ok(Secret::of(&payload, &format!("the key `{key}`"))?)
}

/// On a thread of its own: a key can be read by whoever *possesses* it, through a keyring of theirs, and where a service manager or a login gave
/// moat a session without the user's keyring, nobody does. The thread's own keyring links to the user's, and is gone with the thread.
fn apart(key: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().spawn_scoped(scope, || payload(key));
        reader
            .map_err(|_| KeyError::OutOfMemory)?
            .join()
            .unwrap_or(Err(KeyError::Unknown(0)))
    })
}

fn payload(key: &str) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let own = KeyRing::from_special_id(KeyRingIdentifier::Thread, true)?;
    own.link_keyring_id(KeyRingIdentifier::User)?;
    // Looks through the keyrings of thread, process and session; without call-out information the kernel starts no program to find it.
    let found = own.request_key(key, None::<&str>)?;
    let mut payload = Zeroizing::new(vec![0; RAW_BYTES_MAX + 1]);
    // The whole length, also where the buffer is shorter: a longer payload is refused for its length.
    let length = found.read(&mut *payload)?;
    payload.truncate(length);
    Ok(payload)
}

fn why(error: KeyError) -> &'static str {
    match error {
        KeyError::KeyDoesNotExist | KeyError::KeyringDoesNotExist => {
            "is in no keyring of this user or session (mend: keyctl padd user SERVICE:ACCOUNT @u)"
        }
        KeyError::KeyExpired => "has expired",
        KeyError::KeyRevoked => "was revoked",
        KeyError::AccessDenied | KeyError::PermissionDenied => {
            "may not be read: its permissions, or this machine's (containers often forbid keyrings), are against it"
        }
        _ => "cannot be read: this machine has no usable keyrings",
    }
}
