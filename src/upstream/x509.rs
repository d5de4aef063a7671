//! Who issued a certificate, read from its DER (RFC 5280 §4.1), for the message that says what is missing.

const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const COMMON_NAME: [u8; 3] = [0x55, 0x04, 0x03];
const ORGANIZATION: [u8; 3] = [0x55, 0x04, 0x0a];

/// The issuer's common name and organization, as `CN=…, O=…`; `None` where the certificate cannot be read or its issuer has
/// neither.
#[must_use]
pub(super) fn issuer(certificate: &[u8]) -> Option<String> {
    let (certificate, _) = element(certificate, SEQUENCE)?;
    let (mut fields, _) = element(certificate, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        fields = element(fields, VERSION)?.1;
    }
    let (_serial, rest) = element(fields, *fields.first()?)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    let (mut names, _) = element(rest, SEQUENCE)?;
    let (mut common_name, mut organization) = (None, None);
    while !names.is_empty() {
        let (set, others) = element(names, SET)?;
        names = others;
        let (attribute, _) = element(set, SEQUENCE)?;
        let (oid, value) = element(attribute, 0x06)?;
        let (text, _) = element(value, *value.first()?)?;
        let text: String =
            String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).take(100).collect();
        match oid {
            oid if oid == COMMON_NAME => common_name = Some(format!("CN={text}")),
            oid if oid == ORGANIZATION => organization = Some(format!("O={text}")),
            _ => {}
        }
    }
    let parts: Vec<String> = common_name.into_iter().chain(organization).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// The content of the DER element with this tag at the start, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&[found, first], rest) = der.split_first_chunk::<2>()?;
    if found != tag {
        return None;
    }
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn der(tag: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![tag, 0x82];
        out.extend(u16::try_from(content.len()).unwrap().to_be_bytes());
        out.extend(content);
        out
    }

    fn certificate(issuer: &[(&[u8], &str)]) -> Vec<u8> {
        let names: Vec<u8> = issuer
            .iter()
            .flat_map(|(oid, text)| {
                let attribute = [der(0x06, oid), der(0x0c, text.as_bytes())].concat();
                der(SET, &der(SEQUENCE, &attribute))
            })
            .collect();
        let fields =
            [der(VERSION, &der(0x02, &[2])), der(0x02, &[1, 2]), der(SEQUENCE, &[]), der(SEQUENCE, &names)]
                .concat();
        der(SEQUENCE, &der(SEQUENCE, &fields))
    }

    #[test]
    fn the_issuers_name_and_organization_are_read() {
        let made =
            certificate(&[(&[0x55, 4, 6], "DE"), (&ORGANIZATION, "Corp"), (&COMMON_NAME, "Corp\nRoot")]);
        assert_eq!(issuer(&made).as_deref(), Some("CN=CorpRoot, O=Corp"));
        assert_eq!(issuer(&certificate(&[])), None);
    }

    proptest! {
        #![proptest_config(crate::properties())]
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..120) {
            let _ = issuer(&bytes);
            let mut made = certificate(&[(&COMMON_NAME, "x")]);
            made.truncate(cut);
            let _ = issuer(&made);
        }
    }
}
