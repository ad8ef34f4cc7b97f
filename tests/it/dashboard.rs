//! The pages for people, in a real browser.

mod webhooks;

use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::answer::token;
use crate::support::browser::Browser;
use crate::support::quotad::{ADMIN_KEY, Backend, Quotad, Stores};

/// Opens the dashboard and signs in.
async fn signed_in(quotad: &Quotad) -> Browser {
    let browser = Browser::start().await;
    browser.look(1280, 900, "light").await;
    open(&browser, quotad, "/dashboard").await;
    browser.fill("Admin key", ADMIN_KEY).await;
    browser.click("Sign in").await;
    browser.reads("Live decisions").await;
    browser.wait("the stream", "document.querySelector('.status')?.dataset.state === 'live'").await;
    browser
}

async fn open(browser: &Browser, quotad: &Quotad, path: &str) {
    browser.page.goto(format!("http://{}{path}", quotad.address())).await.expect("a page");
}

/// The page has asked this service alone, and its console has nothing to complain of but the answers that were expected.
async fn is_clean(browser: &Browser, quotad: &Quotad, expected: &[&str]) {
    let own = format!("http://{}/", quotad.address());
    let asked = browser.requests().await;
    // The browser's own empty tab is no page of ours, and a picture in the page is no request.
    let goes_out = |url: &&String| ["http", "ws", "ftp"].iter().any(|scheme| url.starts_with(scheme));
    let foreign: Vec<_> = asked.iter().filter(goes_out).filter(|url| !url.starts_with(&own)).collect();
    assert!(asked.iter().any(|url| url.starts_with(&own)) && foreign.is_empty(), "{foreign:?}");
    let errors = browser.console_errors().await;
    let unexpected: Vec<_> = errors.iter().filter(|line| !expected.iter().any(|known| line.contains(known))).collect();
    assert!(unexpected.is_empty(), "{unexpected:?}");
}

#[tokio::test]
async fn pages_may_load_from_this_service_alone_and_are_asked_for_once() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    for (path, kind) in [
        ("/dashboard", "text/html; charset=utf-8"),
        ("/me", "text/html; charset=utf-8"),
        ("/dashboard/main.js", "text/javascript; charset=utf-8"),
        ("/dashboard/vendor/uplot.css", "text/css; charset=utf-8"),
        ("/dashboard/icon.svg", "image/svg+xml"),
    ] {
        let answer = quotad.ask_as(Method::GET, path, None, &[]).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"),
            "{policy}"
        );
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(
            !answer.text.contains("<script>") && !answer.text.contains(" style="),
            "{path}: nothing is written inline"
        );
        let etag = answer.header("etag").expect("an ETag").to_owned();
        let again = quotad.ask_as(Method::GET, path, None, &[("if-none-match", &etag)]).await;
        assert_eq!((again.status, again.text.as_str()), (304, ""));
    }
    for path in ["/dashboard/nothing.js", "/dashboard/../me.html", "/dashboard/index.html"] {
        assert_eq!(quotad.ask_as(Method::GET, path, None, &[]).await.status, 404, "{path}");
    }
}

/// Every file that lies in the folder is served, and none is named that does not.
#[tokio::test]
async fn every_file_of_the_pages_is_served() {
    fn files(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() { files(&entry, found) } else { found.push(entry) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/http/dashboard");
    let mut found = Vec::new();
    files(&root, &mut found);
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    for file in
        found.iter().filter(|file| !matches!(file.extension().and_then(|kind| kind.to_str()), Some("html" | "LICENSE")))
    {
        let name = file.strip_prefix(&root).expect("below").to_string_lossy();
        let answer = quotad.ask_as(Method::GET, &format!("/dashboard/{name}"), None, &[]).await;
        assert_eq!((answer.status, answer.text), (200, std::fs::read_to_string(file).expect("a text")), "{name}");
    }
}

#[tokio::test]
async fn a_wrong_key_is_told_in_words_and_a_right_one_is_kept_nowhere() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let browser = Browser::start().await;
    open(&browser, &quotad, "/dashboard").await;
    for (key, words) in [
        ("a-wrong-key-of-enough-characters-for-one", "the credential does not verify"),
        (&token(json!({"sub": "42"})), "This page needs a key of the role admin"),
        ("schlüssel", "ASCII"),
    ] {
        browser.fill("Admin key", key).await;
        browser.click("Sign in").await;
        browser.reads(words).await;
    }
    browser.fill("Admin key", ADMIN_KEY).await;
    browser.click("Sign in").await;
    browser.reads("Live decisions").await;
    let kept = browser
        .eval("return JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href])")
        .await;
    assert!(!kept.to_string().contains(ADMIN_KEY), "{kept}");
    browser.page.refresh().await.expect("a page");
    browser.reads("Sign in").await;
    is_clean(&browser, &quotad, &["401", "403"]).await;
    browser.end().await;
}

#[tokio::test]
async fn a_denial_is_seen_live_and_an_override_lets_the_next_check_pass() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "3")]).await;
    let browser = signed_in(&quotad).await;
    assert_eq!(quotad.check(json!({"user_id": "anna", "items": 3})).await.status, 200);
    assert_eq!(quotad.check(json!({"user_id": "anna"})).await.status, 429);
    let seen =
        browser.wait("the denial", "document.querySelector('.decision-denied')?.innerText.includes('anna')").await;
    assert!(seen < Duration::from_secs(2), "{seen:?}");
    browser.wait("it is said aloud", "document.getElementById('announcer').textContent.includes('user:anna')").await;

    browser.click("Users").await;
    browser.reads("Find a user").await;
    browser.fill("Find a user", "nn").await;
    browser.click("anna").await;
    browser.reads("0 of 3 left").await;
    browser.reads("nobody set one").await;
    browser.fill("Requests an hour", "3x").await;
    browser.click("Set the override").await;
    browser.reads("custom_requests_per_hour").await;
    browser.fill("Requests an hour", "50").await;
    browser.fill("Reason", "a migration").await;
    browser.reads("What this changes").await;
    browser
        .wait("the preview", "document.querySelector('.preview').innerText.match(/hour\\s+3\\s+50\\s+3\\s+47/)")
        .await;
    browser.click("Set the override").await;
    browser.reads("47 of 50 left").await;
    assert_eq!(quotad.check(json!({"user_id": "anna"})).await.status, 200);
    browser.reads("46 of 50 left").await;

    browser.click("Audit").await;
    browser.reads("override.put").await;
    browser.click("Overrides").await;
    browser.reads("a migration").await;
    browser.click("Remove").await;
    browser.wait("the question", "document.querySelector('dialog[open]')").await;
    browser.page.execute("document.querySelector('dialog button[value=yes]').click()", vec![]).await.expect("a button");
    browser.reads("No override is in force").await;
    assert_eq!(quotad.check(json!({"user_id": "anna"})).await.status, 429);
    is_clean(&browser, &quotad, &["422", "400"]).await;
    browser.end().await;
}

#[tokio::test]
async fn a_key_is_rotated_and_its_successor_shown_once() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let made = quotad.post("/api/v2/admin/keys", json!({"name": "gateway", "role": "user", "user_id": "u"})).await;
    let key = [("x-api-key", made.json["key"].as_str().expect("a key"))];
    assert_eq!(quotad.ask_as(Method::GET, "/api/v2/users/me/quota", None, &key).await.status, 200);
    let browser = signed_in(&quotad).await;
    visit(&browser, "keys", "Last used").await;
    let used = "document.querySelectorAll('tbody td time').length";
    assert_eq!(browser.eval(&format!("return {used}")).await, 2, "when it was made and last used");
    browser.click("Rotate").await;
    browser.wait("the question", "document.querySelector('dialog[open]')").await;
    browser.page.execute("document.querySelector('dialog button[value=yes]').click()", vec![]).await.expect("a button");
    browser.reads("It is shown this once").await;
    let shown = browser.eval("return document.querySelector('.secret code').textContent").await;
    let successor = [("x-api-key", shown.as_str().expect("a key"))];
    for key in [key, successor] {
        assert_eq!(quotad.ask_as(Method::GET, "/api/v2/users/me/quota", None, &key).await.status, 200);
    }
    let left =
        "[...document.querySelectorAll('tbody button')].filter((one) => one.textContent === 'Rotate').length === 1";
    browser.wait("what was rotated is not rotated again", left).await;
    is_clean(&browser, &quotad, &[]).await;
    browser.end().await;
}

#[tokio::test]
async fn it_can_be_worked_by_the_keyboard_alone() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let browser = Browser::start().await;
    open(&browser, &quotad, "/dashboard").await;
    browser.wait("the field has the focus", "document.activeElement?.type === 'password'").await;
    let (tab, enter) = ("\u{e004}", "\u{e007}");
    browser.press(format!("{ADMIN_KEY}{enter}")).await;
    browser.reads("Live decisions").await;
    browser.wait("the heading has the focus", "document.activeElement?.tagName === 'H1'").await;
    browser.eval("document.activeElement.blur(); document.querySelector('.brand').focus()").await;
    for name in ["Live", "Usage", "Users"] {
        browser.press(tab).await;
        browser.wait(name, &format!("document.activeElement.textContent === '{name}'")).await;
        let outline = browser.eval("return getComputedStyle(document.activeElement).outlineStyle").await;
        assert_eq!(outline, "solid", "the focus on {name} is seen");
    }
    browser.press(enter).await;
    browser
        .wait("the users", "document.activeElement.textContent === 'Users' && document.activeElement.tagName === 'H1'")
        .await;
    browser.press(tab).await;
    browser.wait("the search", "document.activeElement.type === 'search'").await;
    browser.press(format!("nobody{enter}")).await;
    browser.reads("User nobody").await;
    browser.reads("100 of 100 left").await;
    let unnamed = browser
        .eval("return [...document.querySelectorAll('input, select')].filter((one) => !one.labels.length && !one.ariaLabel).length")
        .await;
    assert_eq!(unnamed, 0, "every field has a label");
    browser.end().await;
}

#[tokio::test]
async fn what_a_spreadsheet_would_run_is_saved_as_text() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    let browser = Browser::start().await;
    open(&browser, &quotad, "/dashboard").await;
    let cells = r#"["=1+1", "+1", "-1", "@x", "\t=1", " =1", "plain", "a,b", "say \"no\"", -7, null]"#;
    let script = format!("return import('/dashboard/csv.js').then((made) => {cells}.map(made.cell))");
    let saved = browser.eval(&script).await;
    assert_eq!(
        saved,
        json!(["'=1+1", "'+1", "'-1", "'@x", "'\t=1", "' =1", "plain", "\"a,b\"", "\"say \"\"no\"\"\"", "-7", ""])
    );
    browser.end().await;
}

#[tokio::test]
async fn nothing_stands_out_of_a_phone() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = some_life(&stores).await;
    let browser = signed_in(&quotad).await;
    for scheme in ["dark", "light"] {
        browser.look(400, 800, scheme).await;
        for (view, text) in VIEWS {
            visit(&browser, view, text).await;
            assert_eq!(browser.eval(STANDS_OUT).await, json!([]), "{view} {scheme}");
        }
    }
    is_clean(&browser, &quotad, &[]).await;
    browser.end().await;
}

#[tokio::test]
async fn a_user_sees_their_own_quota_and_nothing_else() {
    let stores = Stores::start(Backend::Embedded);
    let quotad = stores.quotad(&[]).await;
    quotad.check(json!({"user_id": "42", "items": 30})).await;
    let browser = Browser::start().await;
    browser.look(400, 800, "light").await;
    open(&browser, &quotad, "/me").await;
    browser.fill("API key or token", ADMIN_KEY).await;
    browser.click("Sign in").await;
    browser.reads("Use a key that was made for a user").await;
    browser.fill("API key or token", &token(json!({"sub": "42"}))).await;
    browser.click("Sign in").await;
    browser.reads("70 of 100 left").await;
    browser.reads("whole again").await;
    browser
        .wait("the history", "document.querySelector('.chart')?.getAttribute('aria-label')?.includes('30 charged')")
        .await;
    assert_eq!(browser.eval(STANDS_OUT).await, json!([]));
    is_clean(&browser, &quotad, &["403"]).await;
    browser.end().await;
}

/// What stands out of a window of 400 pixels, but for what scrolls by itself.
const STANDS_OUT: &str = "const scrolls = (one) => one.closest('.table-scroll, nav, .u-over, .visually-hidden, .skip'); \
    const out = [...document.body.querySelectorAll('*')].filter((one) => one.getBoundingClientRect().right > 400 && !scrolls(one)); \
    const wide = document.documentElement.scrollWidth; \
    return [...(wide > 400 ? [`the page is ${wide} wide`] : []), ...out.map((one) => one.outerHTML.slice(0, 90))]";

/// Views, and what can be read there when they are whole.
const VIEWS: [(&str, &str); 10] = [
    ("live", "Latest decisions"),
    ("usage", "Top users"),
    ("users", "Find a user"),
    ("user/customer-1", "Slots held"),
    ("overrides", "Overrides in force"),
    ("policy", "What endpoints cost"),
    ("keys", "Make a key"),
    ("webhooks", "Send a test event"),
    ("audit", "Changes, the newest first"),
    ("health", "Checks that wait"),
];

async fn visit(browser: &Browser, view: &str, text: &str) {
    browser.eval(&format!("location.hash = '#/{view}'")).await;
    browser.reads(text).await;
    browser.wait("it is whole", "!document.querySelector('[aria-busy]')").await;
}

/// A service that has seen some use.
async fn some_life(stores: &Stores) -> Quotad {
    let quotad = stores.quotad(&[("FREE_TIER_LIMIT_HOUR", "1500"), ("FREE_TIER_LIMIT_DAY", "20000")]).await;
    let soon = (jiff::Timestamp::now() + jiff::SignedDuration::from_hours(50)).to_string();
    quotad.put("/api/v2/admin/users/customer-1", json!({"tier": "pro"})).await;
    let raised = json!({"custom_requests_per_hour": 2500, "expires_at": soon, "reason": "moving their archive, asked for by mail"});
    quotad.put("/api/v2/admin/quotas/customer-1", raised).await;
    quotad.post("/api/v2/admin/keys", json!({"name": "the gateway in front of the API", "role": "service"})).await;
    quotad.post("/api/v2/leases", json!({"user_id": "customer-1", "kind": "request", "ttl_seconds": 600})).await;
    use_some(&quotad, 400).await;
    quotad
}

/// So many checks of a few customers, some of which are denied.
async fn use_some(quotad: &Quotad, checks: u32) {
    for number in 0..checks {
        let user = ["customer-1", "customer-2", "customer-3", "customer-1", "customer-4"][(number % 5) as usize];
        let check = if number % 11 == 0 {
            json!({"ip": format!("203.0.113.{}", number % 3)})
        } else {
            json!({"user_id": user, "items": 1 + number % 4, "endpoint": "/api/v1/agents"})
        };
        quotad.check(check).await;
    }
}

/// The pictures of docs/dashboard.md; made anew where UPDATE_DOCS is set.
#[tokio::test]
async fn pictures() {
    if std::env::var_os("UPDATE_DOCS").is_none() {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    std::fs::create_dir_all(&folder).expect("a folder");
    let stores = Stores::start(Backend::Embedded);
    let quotad = some_life(&stores).await;
    let browser = signed_in(&quotad).await;
    let used = async {
        loop {
            use_some(&quotad, 60).await;
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
    };
    tokio::select! {
        () = used => {}
        () = take_pictures(&browser, &folder) => {}
    }
    browser.end().await;
}

async fn take_pictures(browser: &Browser, folder: &Path) {
    tokio::time::sleep(Duration::from_secs(25)).await;
    for (view, text, width, height, scheme, file) in [
        ("live", "customer", 1280, 860, "light", "dashboard-live.png"),
        ("live", "customer", 1280, 860, "dark", "dashboard-live-dark.png"),
        ("user/customer-1", "Slots held", 1280, 860, "light", "dashboard-user.png"),
        ("user/customer-1", "Slots held", 400, 800, "dark", "dashboard-phone.png"),
        ("usage", "Top users", 1280, 860, "dark", "dashboard-usage.png"),
    ] {
        browser.look(width, height, scheme).await;
        visit(browser, view, text).await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        browser.screenshot(&folder.join(file)).await;
    }
}
