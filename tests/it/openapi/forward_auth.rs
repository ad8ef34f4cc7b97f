//! Forward-auth, under both of its paths.

use reqwest::Method;
use serde_json::json;

use super::Tour;
use super::document::Operation;
use crate::support::answer::token;

pub async fn all(tour: &mut Tour) {
    let asked = "/api/v2/forward-auth";
    for (user, template) in [("asker", asked), ("asker-at", "/api/v2/forward-auth/{path}")] {
        let operation = Operation { path: template.to_owned(), method: "get".to_owned() };
        let path = template.replace("{path}", "api/v1/agents");
        let as_user = format!("Bearer {}", token(json!({ "sub": user })));
        let limit = json!({"custom_requests_per_hour": 2});
        tour.quotad.put(&format!("/api/v2/admin/quotas/{user}"), limit).await;
        let headers = [("authorization", as_user.as_str())];
        tour.send(&operation, &path, None, &[("authorization", "Bearer x")], 401).await;
        for _ in 0..2 {
            tour.quotad.send(Method::GET, &path, None, &headers).await;
        }
        tour.send(&operation, &path, None, &headers, 429).await;
        tour.send(&operation, &path, None, &[], 200).await;
        if template == asked {
            tour.send(&operation, "/api/v2/forward-auth?deny_status=403", None, &headers, 403).await;
        }
    }
}
