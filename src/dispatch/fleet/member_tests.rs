//! The member against answers that a script would give.

use super::*;
use proptest::prelude::*;

const WINDOW: Duration = Duration::from_secs(60);

fn at(secs: f64) -> Moment {
    Moment::from_secs_f64(secs)
}

fn terms(share: u32) -> Terms {
    let sharers = if share > 0 { 3 } else { 0 };
    Terms { limit: 40, window: WINDOW, burst: 40, reserve: 2, fleet_max: sharers, sharers, share }
}

fn answer(state: State, generation: u64) -> Answer {
    let json = format!(r#"{{"state": "idle", "raw": 1000, "now": 1000, "generation": {generation}}}"#);
    Answer { state, ..serde_json::from_str(&json).unwrap() }
}

fn claim() -> Option<Claim> {
    Some(Claim { class: 2, arrived: Moment::ZERO, client: "a".into() })
}

/// One that has joined and told, at second 1.
fn joined(share: u32) -> Member {
    let mut member = Member::new(Identity::new(Some("r 0")), terms(share), None, Moment::ZERO);
    assert_eq!(member.request("s", at(0.0)).op, Op::Listen);
    member.answered(answer(State::Listen, 0), at(0.0));
    let first = member.request("s", at(0.5));
    assert_eq!((first.op, first.generation, first.tell.is_some()), (Op::Call, 0, false));
    member.answered(answer(State::Tell, 7), at(0.5));
    assert_eq!(member.request("s", at(0.9)).tell.unwrap().generation, 7);
    member.answered(answer(State::Idle, 7), at(1.0));
    assert_eq!(member.standing(at(1.0)), Standing::Joined);
    member
}

fn grant(member: &mut Member, id: &str, secs: f64) -> Option<Grant> {
    member.claim(claim(), at(secs));
    assert!(member.request("s", at(secs)).claim.is_some());
    member.answered(Answer { id: Some(id.into()), ..answer(State::Grant, 7) }, at(secs))
}

#[test]
fn a_name_that_the_script_could_not_take_apart_is_made_plain() {
    let name = Identity::new(Some("a|b~c")).name;
    assert!(name.starts_with("a_b_c~") && name.matches('~').count() == 1, "{name}");
}

#[test]
fn one_that_joins_listens_until_somebody_else_has_written_or_nobody_does() {
    let mut member = Member::new(Identity::new(Some("r")), terms(0), None, Moment::ZERO);
    let heard = |last, now| Answer { last: Some(last), now, ..answer(State::Listen, 1) };
    for secs in [0.0, 0.1, 0.2] {
        assert_eq!(member.request("s", at(secs)).op, Op::Listen);
        member.answered(heard(500, 900), at(secs));
    }
    let mut alone = member.clone();
    assert_eq!(member.request("s", at(0.3)).op, Op::Listen);
    member.answered(heard(800, 1200), at(0.3));
    assert_eq!((member.request("s", at(0.4)).op, member.request("s", at(0.4)).cap), (Op::Call, 0));
    assert_eq!(alone.request("s", at(2.1)).op, Op::Listen);
    alone.answered(heard(500, 40_000), at(2.1));
    let first = alone.request("s", at(2.2));
    // A quarter of the window is how far the clock may have jumped while nobody looked.
    assert_eq!((first.op, first.cap), (Op::Call, 25_000));
}

#[test]
fn a_grant_is_held_then_told_as_sent_or_dropped_and_never_outlives_its_validity() {
    let mut member = joined(0);
    let first = grant(&mut member, "7.1", 2.0).unwrap();
    assert_eq!(first.valid_until, at(12.0));
    let second = grant(&mut member, "7.2", 3.0).unwrap();
    assert_eq!(member.request("s", at(3.1)).held, ["7.1", "7.2"]);
    member.failed(at(3.1));
    member.sent(&first.id, at(3.2), at(3.3));
    member.give_back(&second.id, at(3.3));
    let told = member.request("s", at(4.0));
    assert_eq!((told.held.len(), told.sent), (0, vec![("7.1".into(), 800, vec![1])]));
    // No answer: told again.
    member.failed(at(4.5));
    assert_eq!(member.request("s", at(5.0)).sent.len(), 1);
    member.answered(answer(State::Idle, 7), at(5.0));
    assert_eq!(member.request("s", at(6.0)).sent.len(), 0);
}

#[test]
fn in_a_new_generation_it_tells_its_window_and_whom_it_knew_before_it_claims() {
    let mut member = joined(0);
    let granted = grant(&mut member, "7.1", 2.0).unwrap();
    member.sent(&granted.id, at(2.5), at(2.5));
    let peer = |name: &str| Peer {
        name: name.into(),
        id: name.into(),
        silent: 100,
        left: false,
        shares: true,
        about: None,
    };
    member.request("s", at(3.0));
    member.answered(Answer { roster: Some(vec![peer("x~1")]), ..answer(State::Idle, 7) }, at(3.0));
    member.claim(claim(), at(4.0));
    member.request("other", at(4.0));
    // The new server knows of nobody.
    member.answered(Answer { roster: Some(vec![]), ..answer(State::Tell, 8) }, at(4.0));
    assert_eq!(member.standing(at(4.0)), Standing::Repairing);
    let request = member.request("other", at(5.0));
    let tell = request.tell.unwrap();
    assert!(request.claim.is_none());
    assert_eq!(request.known, 4_500, "it is not new, though the server thinks so");
    assert_eq!((tell.generation, tell.own), (8, vec![("7.1".into(), 2_500, vec![1])]));
    assert_eq!(tell.peers, [("x~1".into(), "x~1".into(), -1, true)]);
    member.answered(answer(State::Idle, 8), at(5.0));
    assert!(member.request("other", at(5.1)).claim.is_some());
}

#[test]
fn a_clock_that_jumps_brings_a_bound_with_the_next_call() {
    let mut member = joined(0);
    assert_eq!(member.request("s", at(3.0)).cap, 0);
    member.answered(Answer { raw: 99_000, ..answer(State::Late, 0) }, at(3.0));
    let request = member.request("s", at(3.0));
    assert_eq!((request.cap, request.expect), (1_000 + 2_000, 99_000 + 102));
}

#[test]
fn without_a_share_it_refuses_while_redis_is_away_and_goes_on_when_it_answers() {
    let mut member = joined(0);
    member.request("s", at(2.0));
    member.failed(at(2.5));
    assert_eq!(member.standing(at(3.0)), Standing::Joined);
    assert_eq!((member.standing(at(4.1)), member.sight(at(4.1)).refuses), (Standing::Away, true));
    assert!(member.due() <= at(2.8));
    member.request("s", at(5.0));
    member.answered(answer(State::Idle, 7), at(5.0));
    assert_eq!((member.standing(at(5.0)), member.sight(at(5.0)).refuses), (Standing::Joined, false));
}

#[test]
fn one_that_never_joined_has_no_share() {
    let mut member = Member::new(Identity::new(Some("r")), terms(13), None, Moment::ZERO);
    member.claim(claim(), at(0.0));
    for minute in 0..10 {
        member.request("s", at(f64::from(minute) * 60.0));
        member.failed(at(f64::from(minute) * 60.0 + 0.5));
        assert_eq!(member.share(at(f64::from(minute) * 60.0 + 30.0)), None);
    }
}

#[test]
fn a_share_that_was_sent_alone_is_told_when_redis_is_back() {
    let mut member = joined(13);
    member.request("s", at(2.0));
    member.failed(at(2.5));
    member.claim(claim(), at(2.5));
    assert_eq!(member.share_at(at(10.0)), at(0.9 + 60.0 + 10.0 + 3.0));
    assert_eq!(member.share(at(70.0)), None);
    let granted = member.share(at(74.0)).unwrap();
    member.sent(&granted.id, at(74.2), at(74.2));
    let untold = member.request("s", at(75.0)).sent;
    assert_eq!(untold, [(granted.id.to_string(), 800, vec![1])]);
}

proptest! {
    #![proptest_config(crate::properties())]
    #[test]
    fn no_window_holds_more_than_the_share_while_redis_is_away(
        share in 1u32..20, steps in prop::collection::vec((0u64..9_000, 0u64..9_000, any::<bool>()), 1..300),
    ) {
        let mut member = joined(share);
        member.request("s", at(2.0));
        member.failed(at(2.5));
        let mut now = at(70.0);
        let mut sent = Vec::new();
        for (gap, delay, used) in steps {
            now = now + Duration::from_millis(gap);
            member.claim(claim(), now);
            let promised = member.share_at(now);
            let Some(granted) = member.share(now) else {
                prop_assert!(promised > now);
                continue;
            };
            if used {
                now = now + Duration::from_millis(delay);
                member.sent(&granted.id, now, now);
                sent.push(now);
            } else {
                member.give_back(&granted.id, now);
            }
        }
        for first in &sent {
            let within = sent.iter().filter(|&&s| s >= *first && s < *first + WINDOW).count();
            prop_assert!(within <= share as usize);
        }
    }
}
