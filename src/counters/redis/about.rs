//! What a server says of itself (`INFO`), as far as the counters depend on it.

/// Which run of which server answers; empty where it may not be asked. A server that is started again may have read an older
/// snapshot, and a replica may not have heard of the last that its master did.
pub fn run_id(info: &str) -> String {
    field(info, "run_id").unwrap_or_default().to_owned()
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim)
}

/// Scripts and commands are those of this version.
const OLDEST: (u32, u32) = (6, 0);

/// What an operator should be told of a server; empty where all is well.
///
/// Counters have an expiry, so every policy but `noeviction` may remove them before their time where memory is bounded: their
/// subjects would start afresh.
pub fn warnings(info: &str) -> Vec<String> {
    let field = |name: &str| field(info, name);
    let mut warnings = Vec::new();
    let version = field("redis_version").unwrap_or_default();
    let mut numbers = version.split('.').map(str::parse::<u32>);
    if let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next())
        && (major, minor) < OLDEST
    {
        warnings.push(format!("its version is {version}: {}.{} is the oldest that is supported", OLDEST.0, OLDEST.1));
    }
    let policy = field("maxmemory_policy").unwrap_or("noeviction");
    let is_bounded = field("maxmemory").is_some_and(|bytes| bytes != "0");
    if is_bounded && policy != "noeviction" {
        warnings.push(format!(
            "its maxmemory-policy is {policy}: when memory is full it removes counters, and their subjects start afresh; \
             set noeviction"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(version: &str, maxmemory: &str, policy: &str) -> String {
        format!("# Server\r\nredis_version:{version}\r\nmaxmemory:{maxmemory}\r\nmaxmemory_policy:{policy}\r\n")
    }

    #[test]
    fn a_server_that_would_forget_is_told_of() {
        assert_eq!(warnings(&info("7.0.15", "0", "allkeys-lru")), Vec::<String>::new());
        assert_eq!(warnings(&info("7.0.15", "1000000", "noeviction")), Vec::<String>::new());
        for policy in ["allkeys-lru", "volatile-ttl", "volatile-random"] {
            let told = warnings(&info("7.0.15", "1000000", policy));
            assert!(told.len() == 1 && told[0].contains(policy) && told[0].contains("noeviction"), "{told:?}");
        }
        let told = warnings(&info("5.0.14", "0", "noeviction"));
        assert!(told.len() == 1 && told[0].contains("5.0.14") && told[0].contains("6.0"), "{told:?}");
        assert_eq!(warnings(""), Vec::<String>::new());
        assert_eq!((run_id("# Server\r\nrun_id:5f\r\n").as_str(), run_id("").as_str()), ("5f", ""));
    }
}
