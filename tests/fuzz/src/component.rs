//! A component of a stranger: what it imports, and the manifest inside.

use crate::imports::imports;
use crate::package::Package;

const MANIFEST: &str = "[skill]\nname = \"x\"\nversion = \"0.1.0\"\nrole = \"job\"\ndescription = \"d\"\n[limits]\nmemory = \"1MiB\"\ntime = \"1s\"\n";

/// Reads it, and packages it with another manifest: the package holds that one, and only once.
pub(crate) fn component(data: &[u8]) {
    let read = imports(data);
    if let Ok(package) = Package::from_component(data) {
        assert_eq!(package.component, data);
        assert!(Package::assemble(&package.manifest_text, data, "component").is_ok());
    }
    if let Ok(package) = Package::assemble(MANIFEST, data, "component") {
        let again = Package::from_component(&package.component).unwrap();
        assert_eq!(again.manifest_text, MANIFEST);
        assert_eq!(again.digest, package.digest);
        let twice = Package::assemble(MANIFEST, &package.component, "component").unwrap();
        assert_eq!(twice.digest, package.digest);
        if let Ok(read) = read {
            assert_eq!(imports(&package.component).unwrap(), read);
        }
    }
}
