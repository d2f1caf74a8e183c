//! WIT values to JSON and back, by their types: one path for every role and every host function.

use serde_json::{Map, Number, Value};
use wasmtime::component::{Type, Val};

/// Deeper values have no place in a contract and would eat the stack.
const DEPTH_MAX: usize = 64;

/// Reads JSON as a value of a type.
///
/// # Errors
/// Where in the JSON, and what is wrong there.
pub(crate) fn from_json(value: &Value, ty: &Type, at: &str, depth: usize) -> Result<Val, String> {
    if depth > DEPTH_MAX {
        return Err(format!("{at}: nested too deep"));
    }
    let wrong = |wanted: &str| format!("{at}: expected {wanted}");
    let whole = |wanted| value.as_i64().ok_or_else(|| wrong(wanted));
    Ok(match ty {
        Type::Bool => Val::Bool(value.as_bool().ok_or_else(|| wrong("true or false"))?),
        Type::S8 => Val::S8(
            whole("a whole number")?
                .try_into()
                .map_err(|_| wrong("a number of 8 bits"))?,
        ),
        Type::U8 => Val::U8(
            whole("a whole number")?
                .try_into()
                .map_err(|_| wrong("a number from 0 to 255"))?,
        ),
        Type::S16 => Val::S16(
            whole("a whole number")?
                .try_into()
                .map_err(|_| wrong("a number of 16 bits"))?,
        ),
        Type::U16 => Val::U16(
            whole("a whole number")?
                .try_into()
                .map_err(|_| wrong("a number of 16 bits"))?,
        ),
        Type::S32 => Val::S32(
            whole("a whole number")?
                .try_into()
                .map_err(|_| wrong("a number of 32 bits"))?,
        ),
        Type::U32 => Val::U32(
            whole("a whole number")?
                .try_into()
                .map_err(|_| wrong("a number of 32 bits"))?,
        ),
        Type::S64 => Val::S64(whole("a whole number")?),
        Type::U64 => Val::U64(
            value
                .as_u64()
                .ok_or_else(|| wrong("a whole number from 0"))?,
        ),
        Type::Float32 => Val::Float32(value.as_f64().ok_or_else(|| wrong("a number"))? as f32),
        Type::Float64 => Val::Float64(value.as_f64().ok_or_else(|| wrong("a number"))?),
        Type::Char => {
            let mut chars = value
                .as_str()
                .ok_or_else(|| wrong("one character"))?
                .chars();
            Val::Char(
                chars
                    .next()
                    .filter(|_| chars.next().is_none())
                    .ok_or_else(|| wrong("one character"))?,
            )
        }
        Type::String => Val::String(value.as_str().ok_or_else(|| wrong("a text"))?.to_owned()),
        Type::List(list) => {
            let items = value.as_array().ok_or_else(|| wrong("a list"))?;
            let item = |(n, item)| from_json(item, &list.ty(), &format!("{at}[{n}]"), depth + 1);
            Val::List(
                items
                    .iter()
                    .enumerate()
                    .map(item)
                    .collect::<Result<_, _>>()?,
            )
        }
        Type::Tuple(tuple) => {
            let items = value
                .as_array()
                .filter(|items| items.len() == tuple.types().len())
                .ok_or_else(|| wrong("a list of fixed length"))?;
            let pairs = items.iter().zip(tuple.types()).enumerate();
            Val::Tuple(
                pairs
                    .map(|(n, (item, ty))| from_json(item, &ty, &format!("{at}[{n}]"), depth + 1))
                    .collect::<Result<_, _>>()?,
            )
        }
        Type::Record(record) => {
            let object = value.as_object().ok_or_else(|| wrong("an object"))?;
            if let Some(key) = object
                .keys()
                .find(|key| !record.fields().any(|field| field.name == key.as_str()))
            {
                return Err(format!("{at}: unknown key {key:?}"));
            }
            let field = |field: wasmtime::component::types::Field<'_>| {
                let inner = object.get(field.name).unwrap_or(&Value::Null);
                Ok((
                    field.name.to_owned(),
                    from_json(inner, &field.ty, &format!("{at}.{}", field.name), depth + 1)?,
                ))
            };
            Val::Record(record.fields().map(field).collect::<Result<_, String>>()?)
        }
        Type::Option(option) => Val::Option(match value {
            Value::Null => None,
            some => Some(Box::new(from_json(some, &option.ty(), at, depth + 1)?)),
        }),
        Type::Variant(variant) => {
            let (name, payload) =
                case(value).ok_or_else(|| wrong("a case, \"name\" or {\"name\": value}"))?;
            let found = variant
                .cases()
                .find(|case| case.name == name)
                .ok_or_else(|| format!("{at}: no case {name:?}"))?;
            Val::Variant(
                name.to_owned(),
                from_payload(payload, found.ty.as_ref(), &format!("{at}.{name}"), depth)?,
            )
        }
        Type::Enum(names) => {
            let name = value.as_str().ok_or_else(|| wrong("a name"))?;
            Val::Enum(
                names
                    .names()
                    .find(|one| *one == name)
                    .ok_or_else(|| format!("{at}: no case {name:?}"))?
                    .to_owned(),
            )
        }
        Type::Result(result) => {
            let (name, payload) =
                case(value).ok_or_else(|| wrong("{\"ok\": …} or {\"err\": …}"))?;
            match name {
                "ok" => Val::Result(Ok(from_payload(
                    payload,
                    result.ok().as_ref(),
                    &format!("{at}.ok"),
                    depth,
                )?)),
                "err" => Val::Result(Err(from_payload(
                    payload,
                    result.err().as_ref(),
                    &format!("{at}.err"),
                    depth,
                )?)),
                _ => return Err(wrong("{\"ok\": …} or {\"err\": …}")),
            }
        }
        Type::Flags(flags) => {
            let items = value.as_array().ok_or_else(|| wrong("a list of names"))?;
            let name = |item: &Value| {
                item.as_str()
                    .filter(|name| flags.names().any(|one| one == *name))
                    .map(str::to_owned)
                    .ok_or_else(|| wrong("known names"))
            };
            Val::Flags(items.iter().map(name).collect::<Result<_, _>>()?)
        }
        _ => return Err(format!("{at}: this type does not cross the border")),
    })
}

/// `"name"` or `{"name": payload}`.
fn case(value: &Value) -> Option<(&str, Option<&Value>)> {
    match value {
        Value::String(name) => Some((name, None)),
        Value::Object(object) if object.len() == 1 => object
            .iter()
            .next()
            .map(|(name, payload)| (name.as_str(), Some(payload))),
        _ => None,
    }
}

fn from_payload(
    payload: Option<&Value>,
    ty: Option<&Type>,
    at: &str,
    depth: usize,
) -> Result<Option<Box<Val>>, String> {
    match (payload, ty) {
        (None | Some(Value::Null), None) => Ok(None),
        (Some(payload), Some(ty)) => Ok(Some(Box::new(from_json(payload, ty, at, depth + 1)?))),
        (None, Some(_)) => Err(format!("{at}: the case needs a value")),
        (Some(_), None) => Err(format!("{at}: the case has no value")),
    }
}

/// Writes a value as JSON.
///
/// # Errors
/// Resources and streams do not cross the border, nor does what nests too deep.
pub(crate) fn to_json(value: &Val, depth: usize) -> Result<Value, String> {
    if depth > DEPTH_MAX {
        return Err("nested too deep".into());
    }
    let list = |items: &[Val]| {
        items
            .iter()
            .map(|item| to_json(item, depth + 1))
            .collect::<Result<Vec<_>, _>>()
            .map(Value::Array)
    };
    let float = |number: f64| Number::from_f64(number).map_or(Value::Null, Value::Number);
    Ok(match value {
        Val::Bool(value) => Value::Bool(*value),
        Val::S8(value) => Value::from(*value),
        Val::U8(value) => Value::from(*value),
        Val::S16(value) => Value::from(*value),
        Val::U16(value) => Value::from(*value),
        Val::S32(value) => Value::from(*value),
        Val::U32(value) => Value::from(*value),
        Val::S64(value) => Value::from(*value),
        Val::U64(value) => Value::from(*value),
        Val::Float32(value) => float(f64::from(*value)),
        Val::Float64(value) => float(*value),
        Val::Char(value) => Value::String(value.to_string()),
        Val::String(value) | Val::Enum(value) => Value::String(value.clone()),
        Val::List(items) | Val::Tuple(items) => list(items)?,
        Val::Record(fields) => {
            let mut object = Map::new();
            for (name, value) in fields {
                object.insert(name.clone(), to_json(value, depth + 1)?);
            }
            Value::Object(object)
        }
        Val::Option(None) => Value::Null,
        Val::Option(Some(value)) => to_json(value, depth + 1)?,
        Val::Variant(name, None) => Value::String(name.clone()),
        Val::Variant(name, Some(payload)) => tagged(name, to_json(payload, depth + 1)?),
        Val::Result(Ok(payload)) => tagged(
            "ok",
            payload
                .as_ref()
                .map_or(Ok(Value::Null), |value| to_json(value, depth + 1))?,
        ),
        Val::Result(Err(payload)) => tagged(
            "err",
            payload
                .as_ref()
                .map_or(Ok(Value::Null), |value| to_json(value, depth + 1))?,
        ),
        Val::Flags(names) => Value::Array(names.iter().cloned().map(Value::String).collect()),
        _ => return Err("this type does not cross the border".into()),
    })
}

fn tagged(name: &str, value: Value) -> Value {
    Value::Object(Map::from_iter([(name.to_owned(), value)]))
}
