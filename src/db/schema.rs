//! The tables, one schema for both databases: times are BIGINT microseconds, JSON is text. The migrations say what each
//! column means.

diesel::table! {
    change_clock (id) {
        id -> BigInt,
        version -> BigInt,
    }
}

diesel::table! {
    changes (version) {
        version -> BigInt,
        kind -> Text,
        user_id -> Nullable<Text>,
        at -> BigInt,
    }
}

diesel::table! {
    audit (id) {
        id -> BigInt,
        at -> BigInt,
        actor -> Text,
        address -> Nullable<Text>,
        action -> Text,
        target -> Text,
        before -> Nullable<Text>,
        after -> Nullable<Text>,
    }
}

diesel::table! {
    users (user_id) {
        user_id -> Text,
        tier -> Text,
        updated_at -> BigInt,
    }
}

diesel::table! {
    overrides (user_id) {
        user_id -> Text,
        requests_per_hour -> Nullable<BigInt>,
        requests_per_day -> Nullable<BigInt>,
        expires_at -> Nullable<BigInt>,
        reason -> Nullable<Text>,
        updated_at -> BigInt,
    }
}

diesel::table! {
    api_keys (id) {
        id -> Text,
        name -> Text,
        role -> Text,
        user_id -> Nullable<Text>,
        secret_sha256 -> Binary,
        created_at -> BigInt,
        expires_at -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
        last_used_at -> Nullable<BigInt>,
        successor -> Nullable<Text>,
    }
}

diesel::table! {
    usage (hour, subject, tier) {
        subject -> Text,
        hour -> BigInt,
        tier -> Text,
        requests -> BigInt,
        cost -> BigInt,
        denied -> BigInt,
    }
}

diesel::table! {
    usage_late (id) {
        id -> BigInt,
        subject -> Text,
        hour -> BigInt,
        tier -> Text,
        requests -> BigInt,
        cost -> BigInt,
        denied -> BigInt,
    }
}

diesel::table! {
    rollup_marks (name) {
        name -> Text,
        hour -> BigInt,
    }
}

diesel::table! {
    rollup_subjects (span, subject, tier) {
        span -> Text,
        kind -> Text,
        subject -> Text,
        tier -> Text,
        requests -> BigInt,
        cost -> BigInt,
        denied -> BigInt,
    }
}

diesel::table! {
    rollup_tiers (span, tier) {
        span -> Text,
        tier -> Text,
        requests -> BigInt,
        cost -> BigInt,
        denied -> BigInt,
        subjects -> BigInt,
    }
}

diesel::table! {
    rollup_hours (hour, tier) {
        hour -> BigInt,
        tier -> Text,
        requests -> BigInt,
        cost -> BigInt,
        denied -> BigInt,
    }
}

diesel::table! {
    counters (subject) {
        subject -> Text,
        state -> Binary,
        whole_at -> BigInt,
    }
}

diesel::table! {
    flush_cursor (instance) {
        instance -> Text,
        sequence -> BigInt,
        applied_at -> BigInt,
    }
}

diesel::table! {
    tiers (name) {
        name -> Text,
        definition -> Text,
        updated_at -> BigInt,
    }
}

diesel::table! {
    endpoint_costs (id) {
        id -> BigInt,
        costs -> Text,
        updated_at -> BigInt,
    }
}

diesel::table! {
    reset_schedules (user_id) {
        user_id -> Text,
        schedule -> Text,
        updated_at -> BigInt,
    }
}

diesel::table! {
    webhook_events (id) {
        id -> Text,
        kind -> Text,
        subject -> Nullable<Text>,
        limit_name -> Nullable<Text>,
        threshold -> Nullable<BigInt>,
        window_end -> Nullable<BigInt>,
        body -> Text,
        state -> Text,
        attempts -> BigInt,
        created_at -> BigInt,
        due_at -> BigInt,
        give_up_at -> BigInt,
        kept_until -> BigInt,
        settled_at -> Nullable<BigInt>,
        answer -> Nullable<BigInt>,
        error -> Nullable<Text>,
    }
}
