//! The cases that moby's own tests are made of, told as facts, and what a large repository needs.

use proptest::prelude::*;

use super::pattern::{Compiled, compile};
use super::*;

/// Whether `path` is excluded.
fn excluded(patterns: &[&str], path: &str) -> bool {
    PatternMatcher::new(patterns).unwrap().matches(path, &Effort::free()).unwrap()
}

#[test]
fn one_pattern_and_one_path() {
    let table = [
        ("**", "file", true),
        ("**", "file/", true),
        ("**/", "file", true),
        ("**/", "file/", true),
        ("**", "/", true),
        ("**/", "/", true),
        ("**", "dir/file", true),
        ("**/", "dir/file", true),
        ("**", "dir/file/", true),
        ("**/", "dir/file/", true),
        ("**/**", "dir/file", true),
        ("**/**", "dir/file/", true),
        ("dir/**", "dir/file", true),
        ("dir/**", "dir/file/", true),
        ("dir/**", "dir/dir2/file", true),
        ("dir/**", "dir/dir2/file/", true),
        ("**/dir", "dir", true),
        ("**/dir", "dir/file", true),
        ("**/dir2/*", "dir/dir2/file", true),
        ("**/dir2/*", "dir/dir2/file/", true),
        ("**/dir2/**", "dir/dir2/dir3/file", true),
        ("**/dir2/**", "dir/dir2/dir3/file/", true),
        ("**file", "file", true),
        ("**file", "dir/file", true),
        ("**/file", "dir/file", true),
        ("**file", "dir/dir/file", true),
        ("**/file", "dir/dir/file", true),
        ("**/file*", "dir/dir/file", true),
        ("**/file*", "dir/dir/file.txt", true),
        ("**/file*txt", "dir/dir/file.txt", true),
        ("**/file*.txt", "dir/dir/file.txt", true),
        ("**/file*.txt*", "dir/dir/file.txt", true),
        ("**/**/*.txt", "dir/dir/file.txt", true),
        ("**/**/*.txt2", "dir/dir/file.txt", false),
        ("**/*.txt", "file.txt", true),
        ("**/**/*.txt", "file.txt", true),
        ("a**/*.txt", "a/file.txt", true),
        ("a**/*.txt", "a/dir/file.txt", true),
        ("a**/*.txt", "a/dir/dir/file.txt", true),
        ("a/*.txt", "a/dir/file.txt", false),
        ("a/*.txt", "a/file.txt", true),
        ("a/*.txt**", "a/file.txt", true),
        ("a[b-d]e", "ae", false),
        ("a[b-d]e", "ace", true),
        ("a[b-d]e", "aae", false),
        ("a[^b-d]e", "aze", true),
        (".*", ".foo", true),
        (".*", "foo", false),
        ("abc.def", "abcdef", false),
        ("abc.def", "abc.def", true),
        ("abc.def", "abcZdef", false),
        ("abc?def", "abcZdef", true),
        ("abc?def", "abcdef", false),
        ("a\\\\", "a\\", true),
        ("**/foo/bar", "foo/bar", true),
        ("**/foo/bar", "dir/foo/bar", true),
        ("**/foo/bar", "dir/dir2/foo/bar", true),
        ("abc/**", "abc", false),
        ("abc/**", "abc/def", true),
        ("abc/**", "abc/def/ghi", true),
        ("**/.foo", ".foo", true),
        ("**/.foo", "bar.foo", false),
        ("a(b)c/def", "a(b)c/def", true),
        ("a(b)c/def", "a(b)c/xyz", false),
        ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
        (
            "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
            "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl",
            true,
        ),
        ("dist/*.whl", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl", true),
        ("a\\*b", "a*b", true),
        ("*", "fileutils.go", true),
        ("*.go", "fileutils.go", true),
        ("*.go", ".", false),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(excluded(&[pattern], path), expected, "{pattern} {path}");
    }
}

#[test]
fn wildcards_mean_what_they_mean_to_gos_path_match() {
    let table = [
        ("abc", "abc", true),
        ("*", "abc", true),
        ("*c", "abc", true),
        ("a*", "a", true),
        ("a*", "abc", true),
        ("a*", "ab/c", true),
        ("a*/b", "abc/b", true),
        ("a*/b", "a/c/b", false),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", true),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", false),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
        ("a*b?c*x", "abxbbxdbxebxczzx", true),
        ("a*b?c*x", "abxbbxdbxebxczzy", false),
        ("ab[c]", "abc", true),
        ("ab[b-d]", "abc", true),
        ("ab[e-g]", "abc", false),
        ("ab[^c]", "abc", false),
        ("ab[^b-d]", "abc", false),
        ("ab[^e-g]", "abc", true),
        ("a\\*b", "a*b", true),
        ("a\\*b", "ab", false),
        ("a?b", "a☺b", true),
        ("a[^a]b", "a☺b", true),
        ("a???b", "a☺b", false),
        ("a[^a][^a][^a]b", "a☺b", false),
        ("[a-ζ]*", "α", true),
        ("*[a-ζ]", "A", false),
        ("a?b", "a/b", false),
        ("a*b", "a/b", false),
        ("[\\]a]", "]", true),
        ("[\\-]", "-", true),
        ("[x\\-]", "x", true),
        ("[x\\-]", "-", true),
        ("[x\\-]", "z", false),
        ("[\\-x]", "x", true),
        ("[\\-x]", "-", true),
        ("[\\-x]", "a", false),
        ("*x", "xxx", true),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(excluded(&[pattern], path), expected, "{pattern} {path}");
    }
}

/// Read off moby's own matcher, run beside this one over 400,000 cases made by chance.
#[test]
fn what_surprises_with_docker_surprises_here_too() {
    let table = [
        ("*.{js,ts}", "a.js", false),
        ("*.{js,ts}", "a.{js,ts}", true),
        ("log[0-9]{4}*", "log2024.txt", true),
        ("log[0-9]{4}*", "log24.txt", false),
        ("a*|b", "ax", true),
        ("a*|b", "x/b", true),
        ("a*|b", "x/bc", false),
        ("src\\build", "src/build", false),
        ("src\\build", "srcbuild", false),
        ("obj\\d*", "obj7", true),
        ("x[a*]", "x[a]", true),
        ("x[a*]", "xa", false),
        ("x*\\", "xy$z", true),
        ("a^b*", "a^b", false),
        ("^ab", "^ab", true),
        ("^a*", "ab", true),
        ("[[:digit:]]*", "7x", true),
    ];
    for (pattern, path, expected) in table {
        assert_eq!(excluded(&[pattern], path), expected, "{pattern} {path}");
    }
}

#[test]
fn a_pattern_that_cannot_be_read_is_refused_and_named() {
    for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "\\", "[a-b-c]", "[", "[^", "[^bc", "a[", "!", "[Local-Only]/", "a\\p*"] {
        let error = PatternMatcher::new(&["fine", pattern]).unwrap_err();
        assert_eq!(error.pattern, pattern);
        assert!(error.to_string().contains("pattern"), "{error}");
    }
}

#[test]
fn exceptions_are_applied_in_order() {
    let wheel = "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl";
    let table: [(&[&str], &str, bool); 16] = [
        (&["**", "!util/docker/web"], "util/docker/web/foo", false),
        (&["**", "!util/docker/web", "util/docker/web/foo"], "util/docker/web/foo", true),
        (&["**", "!dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl"], wheel, false),
        (&["**", "!dist/*.whl"], wheel, false),
        (&["!fileutils.go", "*.go"], "fileutils.go", true),
        (&["*.go", "!fileutils.go"], "fileutils.go", false),
        (&["docs", "!docs/README.md"], "docs/README.md", false),
        (&["docs/", "!docs/README.md"], "docs/README.md", false),
        (&["docs/*", "!docs/README.md"], "docs/README.md", false),
        (&["docs", "  !docs/README.md"], "docs/README.md", false),
        (&["docs", "!docs/README.md  "], "docs/README.md", false),
        (&["*", "!**/*.txt"], "dir/a.txt", false),
        (&["*", "!**/*.txt"], "dir/a.md", true),
        (&["docs", "config", ""], "config/x", true),
        (&[], "any/path", false),
        (&["*", "!src", "**/*.log"], "src/deep/x.log", true),
    ];
    for (patterns, path, expected) in table {
        assert_eq!(excluded(patterns, path), expected, "{patterns:?} {path}");
    }
    assert!(PatternMatcher::new(&["docs", "!docs/README.md"]).unwrap().has_exceptions());
    assert!(!PatternMatcher::new(&["docs", ""]).unwrap().has_exceptions());
}

#[test]
fn patterns_compile_to_what_moby_writes_for_them() {
    let regexes = [
        ("*", "^[^/]*$"),
        ("file*", "^file[^/]*$"),
        ("*file", "^[^/]*file$"),
        ("a*/b", "^a[^/]*/b$"),
        ("**/**", "^(.*/)?.*$"),
        ("**/dir2/*", "^(.*/)?dir2/[^/]*$"),
        ("**/dir2/**", "^(.*/)?dir2/.*$"),
        ("**/file*txt", "^(.*/)?file[^/]*txt$"),
        ("**/**/*.txt", "^(.*/)?(.*/)?[^/]*\\.txt$"),
        ("a[b-d]e", "^a[b-d]e$"),
        (".*", "^\\.[^/]*$"),
        ("abc?def", "^abc[^/]def$"),
    ];
    for (pattern, regex) in regexes {
        assert_eq!(compile(pattern), Compiled::Regex(regex.to_owned()), "{pattern}");
    }
    assert_eq!(compile("**"), Compiled::Suffix(""));
    assert_eq!(compile("dir/**"), Compiled::Prefix("dir/"));
    for pattern in ["**/dir", "**file", "**/foo/bar"] {
        assert_eq!(compile(pattern), Compiled::Suffix(&pattern[2..]));
    }
    for pattern in ["abc.def", "a(b)c/def", "a.|)$(}+{bc", "dist/proxy.py-2.4.0rc3.dev36+g08acad9-py3-none-any.whl"] {
        assert_eq!(compile(pattern), Compiled::Exact);
    }
}

#[test]
fn the_lines_of_a_file_are_read_as_docker_reads_them() {
    let file = "\u{feff}test1\r\n/test2\n/a/file/here\n\nlastfile\n# this is a comment\n! /inverted/abs/path\n!\n! \n  #kept\n./x//y/../z/\n/";
    let expected = ["test1", "test2", "a/file/here", "lastfile", "!inverted/abs/path", "!", "!", "#kept", "x/z", "/"];
    assert_eq!(read_patterns(file.as_bytes()).unwrap(), expected);
    assert!(read_patterns(b"").unwrap().is_empty());
    assert!(read_patterns(&[b'a'; 70_000]).is_err());
}

#[test]
fn a_hundred_thousand_lines_over_twenty_thousand_files_take_no_age() {
    let mut lines = Vec::new();
    for i in 0..25_000 {
        lines.push(format!("vendor/package{i}/dist"));
        lines.push(format!("**/generated{i}.js"));
        lines.push(format!("build{i}/**"));
        lines.push(format!("logs/app{i}-*.log"));
    }
    lines.push("!**/keep*".to_owned());
    let matcher = PatternMatcher::new(&lines).unwrap();
    let begin = std::time::Instant::now();
    let never = || false;
    let effort = Effort::new(&never);
    let mut kept = 0;
    for d in 0..200 {
        for f in 0..100 {
            kept += usize::from(!matcher.matches(&format!("build{d}/keep{f}"), &effort).unwrap());
        }
    }
    assert_eq!(kept, 20_000);
    assert!(begin.elapsed().as_secs() < 20, "{:?}", begin.elapsed());
}

#[test]
fn too_many_patterns_that_match_anything_are_refused() {
    let lines: Vec<String> = (0..2_000).map(|i| format!("*a{i}*")).collect();
    assert!(PatternMatcher::new(&lines).unwrap_err().reason.contains("too many"));
    assert!(PatternMatcher::new(&lines[..1_000]).is_ok());
}

/// Each character of each path keeps thousands of steps going.
fn slow_patterns_and_path() -> (PatternMatcher, String) {
    (PatternMatcher::new(&[format!("{}[n]", "**/".repeat(1300))]).unwrap(), "abcdefg/".repeat(120) + "x")
}

#[test]
fn patterns_that_take_too_long_are_given_up() {
    let (matcher, path) = slow_patterns_and_path();
    let never = || false;
    let effort = Effort::of(5_000_000, &never);
    let results: Vec<_> = (0..4).map(|_| matcher.matches(&path, &effort)).collect();
    assert_eq!(results[3], Err(Spent::TooMuch), "{results:?}");
    let failure = crate::protocol::Failure::from(Spent::TooMuch);
    assert_eq!(failure.code, crate::protocol::Code::ContextIgnoreInvalid);
}

#[test]
fn patterns_are_given_up_in_the_middle_of_a_path_when_nobody_waits_any_more() {
    let (matcher, path) = slow_patterns_and_path();
    let looks = std::cell::Cell::new(0);
    let is_stopped = || {
        looks.set(looks.get() + 1);
        looks.get() > 2
    };
    assert_eq!(matcher.matches(&path, &Effort::new(&is_stopped)), Err(Spent::Stopped));
}

#[test]
fn what_large_repositories_do_is_far_from_too_much() {
    let mut patterns: Vec<String> = (0..50).map(|n| format!("**/{n}*.[oa]")).collect();
    patterns.extend((0..50).map(|n| format!("packages/*/cache{n}/**/*.tmp")));
    let matcher = PatternMatcher::new(&patterns).unwrap();
    let never = || false;
    // a hundredth of the files, a hundredth of the effort
    let effort = Effort::of(100_000_000, &never);
    for n in 0..1_000 {
        assert_eq!(
            matcher.matches(&format!("packages/some-package/src/components/button{n}/index.test.tsx"), &effort),
            Ok(false)
        );
    }
}

proptest! {
    #[test]
    fn no_pattern_brings_the_worker_down(lines in prop::collection::vec("[ab*?!/.\\[\\]^\\\\:-]{0,12}|\\PC{0,20}", 0..6), path in "[ab/.]{0,12}") {
        if let Ok(matcher) = PatternMatcher::new(&lines) {
            let _ = matcher.matches(&path, &Effort::free());
        }
        let _ = read_patterns(lines.join("\n").as_bytes());
    }
}
