//! The policy file: one that can't be taken over leaves the policy in force as it was, and says why in one line.
#![no_main]

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, mpsc};

use libfuzzer_sys::fuzz_target;
use quotad::clock::Clock;
use quotad::config::Settings;
use quotad::db::Database;
use quotad::domain::subject::{Subject, UserId};
use quotad::domain::tier::Tier;
use quotad::domain::time::Timestamp;
use quotad::persistence::{Books, LedgerBounds};
use quotad::policy::PolicyStore;

/// The store, and the file that it follows.
fn store() -> &'static (PolicyStore, PathBuf) {
    static STORE: OnceLock<(PolicyStore, PathBuf)> = OnceLock::new();
    STORE.get_or_init(|| {
        let (made, waits) = mpsc::channel();
        // The system runs for as long as the process.
        std::thread::spawn(move || {
            let system = actix::System::new();
            let store = system.block_on(async {
                let folder = tempfile::tempdir().expect("a folder").keep();
                let vars = [("QUOTAD_DATA_DIR".to_owned(), folder.display().to_string())];
                let settings = Settings::from_vars(vars).expect("settings");
                let database = Database::connect(&settings.database).expect("a database");
                database.migrate().await.expect("a schema");
                let (clock, bounds) = (Clock::system(), LedgerBounds::default());
                let books = Books::start(database, &settings.database, clock.clone(), "fuzz".to_owned(), bounds);
                let file = folder.join("policy.toml");
                std::fs::write(&file, "").expect("a file");
                let layer = settings.policy.layer();
                let store = PolicyStore::start(layer, Some(file.clone()), books, clock).await.expect("a policy");
                (store, file)
            });
            made.send(store).expect("somebody waits");
            system.run().expect("it runs");
        });
        waits.recv().expect("a store")
    })
}

fuzz_target!(|text: &[u8]| {
    let (store, file) = store();
    let (in_force, failures) = (store.in_force(), store.status().failures);
    let before = in_force.load_full();
    std::fs::write(file, text).expect("a file");
    store.follow_file(true);
    let (after, status) = (in_force.load_full(), store.status());
    match status.error {
        Some(error) => {
            assert!(Arc::ptr_eq(&before, &after), "the policy in force holds");
            assert!(!error.contains('\n') && !error.contains("policy.toml"), "{error}");
        }
        None => assert_eq!(status.failures, failures),
    }
    let user = Subject::User(UserId::parse("42").expect("an id"));
    let now = Timestamp::from_seconds(1_800_000_000);
    for tier in after.tiers() {
        assert_eq!(tier.check(), Ok(()));
        let json = serde_json::to_value(tier).expect("JSON");
        assert_eq!(&serde_json::from_value::<Tier>(json).expect("what was written can be read"), tier);
        let plan = after.plan_for(&user, Some(&tier.name), None, None, now);
        assert_eq!(plan.limits.len(), tier.limits.len());
    }
});
