//! The schemas that editors read are those of the types: `UPDATE=1 cargo test -p tests --test schemas` writes them anew.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests may stop at the first surprise"
)]

use std::path::Path;

use serde_json::Value;

fn schemas() -> [(&'static str, Value); 5] {
    [
        ("skill", capability::Manifest::json_schema()),
        ("policy", capability::Policy::json_schema()),
        ("moat", project::Project::json_schema()),
        ("models", model::Config::json_schema()),
        ("secrets", egress::store::Config::json_schema()),
    ]
}

#[test]
fn the_schemas_in_docs_are_those_of_the_types() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    for (name, schema) in schemas() {
        let path = directory.join(format!("{name}.schema.json"));
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let shipped = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            shipped == text,
            "docs/schemas/{name}.schema.json is not that of the types: `UPDATE=1 cargo test -p tests --test schemas` writes it anew"
        );
    }
}

/// What editors complete and check rests on this: a key that the parser refuses is no key of the schema.
#[test]
fn every_table_of_a_schema_is_closed_or_a_map() {
    fn look(at: &str, value: &Value) {
        if let Some(fields) = value.get("properties") {
            assert!(
                value["additionalProperties"] == false,
                "{at} takes unknown keys: {fields}"
            );
        }
        match value {
            Value::Object(fields) => fields
                .iter()
                .for_each(|(key, value)| look(&format!("{at}/{key}"), value)),
            Value::Array(items) => items.iter().for_each(|item| look(at, item)),
            _ => {}
        }
    }
    for (name, schema) in schemas() {
        look(name, &schema);
    }
}
