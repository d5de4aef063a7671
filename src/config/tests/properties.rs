//! Whatever is given: no panic, one line a fault, and what is accepted loads back.

use proptest::prelude::*;

use super::super::render::render_exposed;
use super::super::*;
use super::{config, load_text};

/// Text that is near enough to a configuration file to get past the parser now and then.
fn near_files() -> impl Strategy<Value = String> {
    let keys: Vec<&str> = KEYS.iter().map(|key| key.name).chain(["nope", "<<"]).collect();
    let values = prop_oneof![
        "[ -~]{0,12}",
        any::<f64>().prop_map(|number| number.to_string()),
        any::<i64>().prop_map(|number| number.to_string()),
        (0..2000u32).prop_map(|number| number.to_string()),
        Just("true".to_owned()),
        Just("[429, connect]".to_owned()),
        "[{]a: [a-z0-9=%]{1,9}, b: [A-Z]{9}[}]",
        "https?://[a-z.]{1,9}(:[0-9]{1,4})?/[a-z]{0,3}",
        "(auto|never|learned|reject|debug|json|'::1'|/tmp/é\u{1f600})",
        "[\\[][{]match: '[a-z*/]{1,9}', rate: '[1-9]/[1-9]?[smhd](, [1-9]/[smhd])?'(, in_flight: [1-9])?[}][\\]]",
        "(http://)?([a-z%:]{1,9}@)?[a-z.]{1,9}(:[0-9]{1,4})?/?",
        "[\\[]('[a-z]{1,5}://[a-z]{0,9}', ?){0,3}[\\]]",
        "[\\[][{]name: [a-z]{1,3}, label: '[ -&(-~é]{0,9}', heartbeat_seconds: [1-9]{1,3}[.][0-9][}][\\]]",
    ];
    let line = (prop::sample::select(keys), values).prop_map(|(key, value)| format!("{key}: {value}\n"));
    prop::collection::vec(line, 0..4).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(crate::properties())]
    #[test]
    fn any_bytes_as_a_file_make_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = load_text(&String::from_utf8_lossy(&bytes), &[]);
    }

    #[test]
    fn any_text_as_a_variable_makes_no_panic_and_one_line_a_fault(
        index in 0..KEYS.len(),
        text in ".{0,40}",
    ) {
        let variable = KEYS[index].variable.as_str();
        for line in load_text("", &[(variable, &text)]).err().unwrap_or_default() {
            prop_assert_eq!(line.lines().count(), 1, "{:?}", line);
        }
    }

    #[test]
    fn what_is_accepted_renders_and_loads_back(file in near_files()) {
        match load_text(&file, &[]) {
            Ok((config, _)) => {
                let rendered = render_exposed(&config);
                let again = load_text(&rendered, &[]);
                prop_assert_eq!(again.map(|(config, _)| config), Ok(config), "{}", rendered);
            }
            Err(lines) => prop_assert!(lines.iter().all(|line| line.lines().count() == 1), "{:?}", lines),
        }
    }

    #[test]
    fn a_reload_of_anything_keeps_what_needs_a_restart(file in near_files(), port in 1024..9000u16) {
        let Ok((loaded, _)) = load_text(&file, &[]) else { return Ok(()) };
        let running = config(&format!("listen_port: {port}\nstate_file: /a\nlog_format: text\nrate_rpm: 33"));
        let reloaded = reload(&running, &loaded);
        let shown = [&running, &loaded, &reloaded.config].map(render::values);
        for (index, key) in KEYS.iter().enumerate() {
            let [running, loaded, merged] = [0, 1, 2].map(|which: usize| &shown[which][index].1);
            let kept = match key.reload { Reload::Restart => running, Reload::Live => loaded };
            prop_assert_eq!(merged, kept, "{}", key.name);
            let held = reloaded.held.iter().any(|held| held.key == key.name);
            prop_assert_eq!(held, key.reload == Reload::Restart && running != loaded, "{}", key.name);
            let changed = reloaded.changed.contains(&key.name);
            prop_assert_eq!(changed, key.reload == Reload::Live && running != loaded, "{}", key.name);
        }
    }
}
