#!/usr/bin/perl

# Copyright (C) the ngx_http_llm_budget_module authors

# The JSON scanner against others: the JSONTestSuite, if it is at hand, and a
# corpus of nasty bodies that jansson and Python read as well.  Whatever the
# scanner accepts, all of them must accept, and they must see the same model
# (T33): a body that two readers read differently is a way around a budget.

use warnings;
use strict;

use File::Temp qw/ tempdir /;
use FindBin;
use Test::More;

chdir("$FindBin::Bin/..") or die "cannot enter the project root: $!\n";

my $bin = $ENV{LLMB_UNIT_DIR} // 'build/unit';
my $suite = '../shared/json-test-suite/test_parsing';

# What the suite leaves open.  Numbers are kept as text, so none is too big
# for the scanner; who wants an integer asks llmb_json_int().  Text that is
# not Unicode, a BOM, UTF-16 and great depth are refused.

my %open = map { ("i_$_.json" => 'accept') } qw/
    number_double_huge_neg_exp number_huge_exp number_neg_int_huge_exp
    number_pos_double_huge_exp number_real_neg_overflow
    number_real_pos_overflow number_real_underflow number_too_big_neg_int
    number_too_big_pos_int number_very_big_negative_int
/;

%open = (%open, map { ("i_$_.json" => 'refuse') } qw/
    object_key_lone_2nd_surrogate string_1st_surrogate_but_2nd_missing
    string_1st_valid_surrogate_2nd_invalid string_UTF-16LE_with_BOM
    string_UTF-8_invalid_sequence string_UTF8_surrogate_U+D800
    string_incomplete_surrogate_and_escape_valid
    string_incomplete_surrogate_pair
    string_incomplete_surrogates_escape_valid
    string_invalid_lonely_surrogate string_invalid_surrogate
    string_invalid_utf-8 string_inverted_surrogates_U+1D11E
    string_iso_latin_1 string_lone_second_surrogate
    string_lone_utf8_continuation_byte string_not_in_unicode_range
    string_overlong_sequence_2_bytes string_overlong_sequence_6_bytes
    string_overlong_sequence_6_bytes_null string_truncated-utf-8
    string_utf16BE_no_BOM string_utf16LE_no_BOM
    structure_500_nested_arrays structure_UTF-8_BOM_empty_object
/);

# Where jansson may refuse what we accept: its own limits, not the grammar.

my $jansson_limits = qr/too\ big|real\ number\ overflow
    |NUL\ byte\ in\ object\ key/x;

for my $name ('json_cat', 'jansson_cat') {
    -x "$bin/$name" or BAIL_OUT("$bin/$name is not built");
}

SKIP: {
    skip 'no JSONTestSuite', 1 unless -d $suite;

    test_suite();
}

test_differential();

done_testing();

###############################################################################

sub test_suite {
    my @files = sort glob("$suite/[yni]_*.json");
    my $seen = 0;

    cmp_ok(scalar @files, '>=', 300, 'The suite is complete.');

    for my $file (@files) {
        my ($name) = $file =~ m!([^/]+)$!;
        my $want = $name =~ /^y/ ? 'accept' : $name =~ /^n/ ? 'refuse'
            : $open{$name} // 'a decision';

        my $whole = run("$bin/json_cat", '-t', $file);
        my $bytes = run("$bin/json_cat", '-t', '-1', $file);

        is(verdict($whole), $want, "The scanner says \"$want\" to $name.");
        is($bytes, $whole, "Byte by byte it says the same to $name.");

        $seen++ if $name =~ /^i/;
    }

    is($seen, scalar keys %open, 'Each open case is in the suite.');
}


sub test_differential {
    my @bodies = corpus();
    my $dir = tempdir(CLEANUP => 1);
    my (@files, @ours, $accepted, $with_model);

    cmp_ok(scalar @bodies, '>=', 300, 'The corpus has 300 bodies or more.');

    my $differ = 0;

    for my $i (0 .. $#bodies) {
        push @files, sprintf('%s/%04u.json', $dir, $i);

        open my $fh, '>:raw', $files[$i] or die "cannot write: $!\n";
        print $fh $bodies[$i];
        close $fh or die "cannot write: $!\n";

        push @ours, run("$bin/json_cat", '-t', $files[$i]);

        if (run("$bin/json_cat", '-t', '-1', $files[$i]) ne $ours[$i]) {
            diag('byte by byte: ' . show($bodies[$i]));
            $differ++;
        }
    }

    is($differ, 0, 'No body is read otherwise byte by byte.');

    $accepted = grep { verdict($_) eq 'accept' } @ours;
    $with_model = grep { defined model($_) && model($_) ne '-' } @ours;

    cmp_ok($accepted, '>=', 100, 'A hundred of them are accepted.');
    cmp_ok(@bodies - $accepted, '>=', 100, 'A hundred of them are refused.');
    cmp_ok($with_model, '>=', 50, 'Fifty of them have one model.');

    my @jansson = split /\n/, run("$bin/jansson_cat", @files);

    compare('jansson', \@bodies, \@ours, \@jansson, $jansson_limits);

    SKIP: {
        my $python = python($dir, @files);

        skip 'no python3', 4 unless defined $python;

        my @python = split /\n/, $python;

        compare('Python', \@bodies, \@ours, \@python, undef);

        # the other way round: nothing is refused without a reason

        my @extra = grep {
            $ours[$_] !~ /^(accept|refuse limit)/m
            && $jansson[$_] =~ /^accept/ && $python[$_] =~ /^accept/
        } (0 .. $#bodies);

        diag('both accept: ' . show($bodies[$_])) for @extra;
        is(scalar @extra, 0,
            'What both accept is refused for its depth only.');
    }
}


sub compare {
    my ($who, $bodies, $ours, $theirs, $limits) = @_;
    my ($refused, $differ) = (0, 0);

    is(scalar @$theirs, scalar @$bodies, "$who reads all bodies.");

    for my $i (0 .. $#$bodies) {
        next unless verdict($ours->[$i]) eq 'accept';

        my ($rc, $text) = ($theirs->[$i] // '') =~ /^(\w*) ?(.*)$/;

        if ($rc ne 'accept') {
            next if $limits && $text =~ $limits;

            diag("$who refuses: " . show($bodies->[$i]) . ": $text");
            $refused++;
            next;
        }

        # the scanner keeps 256 bytes of a text, 512 digits here

        my $model = model($ours->[$i]);

        if (defined $model && $model ne substr($text, 0, 512)) {
            diag("$who sees $text: " . show($bodies->[$i]));
            $differ++;
        }
    }

    is($refused, 0, "$who accepts what the scanner accepts.");
    is($differ, 0, "$who sees the same model.");
}


sub verdict {
    my ($out) = @_;

    return $out =~ /^accept$/m ? 'accept' : $out =~ /^refuse/m ? 'refuse'
        : "nothing: $out";
}


# Of the tokens: the top-level string "model" in hex, "-" if there is none or
# it is no string, undef if there are several or the body is refused.

sub model {
    my ($out) = @_;
    my @lines = split /\n/, $out;
    my $model;

    return undef unless verdict($out) eq 'accept';
    return '-' unless $lines[0] =~ /^object 0 /;

    for my $i (0 .. $#lines) {
        next unless $lines[$i] =~ /^key 1 \d+ \d+ 5 6d6f64656c$/;

        return undef if defined $model;

        $model = '-';

        if ($lines[$i + 1] =~ /^string 1 \d+ \d+ \d+ (\S+)$/) {
            $model = $1 eq '-' ? '' : $1;
        }
    }

    return $model // '-';
}


sub corpus {
    my @bodies = (nasty(), mutations());
    my %seen;

    return grep { !$seen{$_}++ } @bodies;
}


# Each of these was, somewhere, a way to be read in two ways.

sub nasty {
    my @bodies;

    # values of a model

    push @bodies, map { "{\"model\":$_,\"stream\":true}" } (
        '"gpt-4o"', '""', '"m\u006Fdel"', '"\u006d\u006f"', '"a\/b"',
        '"a\\\\b"', '"\"quoted\""', '"\u0000"', '"a\u0000b"', '"\u00e9"',
        "\"\xc3\xa9\"", "\"e\xcc\x81\"", '"\u20ac\u20AC"',
        '"\ud83d\ude00"', "\"\xf0\x9f\x98\x80\"", '"\ud83d"', '"\ude00"',
        '"\ude00\ud83d"', '"\ud83d\u0041"', '"\ud83dx"', '"\ud83d\n"',
        "\"\xed\xa0\xbd\xed\xb8\x80\"", '"\uffff"', "\"\xef\xbf\xbf\"",
        '"\uFEFFm"', "\"\xef\xbb\xbfm\"", "\"\xff\"", "\"\xc0\xaf\"",
        "\"\xc3\"", "\"\xe2\x82\"", "\"\xf4\x90\x80\x80\"", "\"a\nb\"",
        "\"a\tb\"", "\"a\0b\"", "\"\x7f\"", '"\x41"', '"\u{41}"', '"\u41"',
        '"\U0041"', '"\a"', "'m'", '`m`', 'm', '"m', 'm"', '"m" "n"',
        '"m"+"n"', '["m"]', '{"m":"m"}', 'null', 'true', '1', '1.0',
        '"' . 'x' x 255 . '"', '"' . 'x' x 256 . '"',
        '"' . 'x' x 257 . '"', '"' . 'x' x 5000 . '"',
        '"' . '\u00e9' x 200 . '"', '"' . "\xc3\xa9" x 200 . '"',
        '"' . '\ud83d\ude00' x 100 . '"', '" m "', '"M"', '"\b\f\n\r\t"',
        '"//"', '"/* */"', '"m"/**/', '"m"//', '"model\":\"x"',
        "\"\xe2\x80\xa8\"", '"\u2028"',
    );

    # keys

    push @bodies, map { "{$_}" } (
        '"model":"a","model":"b"', '"model":"a","Model":"b"',
        '"model":"a","mod\u0065l":"b"', '"mod\u0065l":"b"',
        '"\u006d\u006f\u0064\u0065\u006c":"b"', '"model\u0000":"b"',
        '"model\u0000":"b","model":"a"', '"model ":"b"', '" model":"b"',
        '"MODEL":"b"', '"metadata":{"model":"b"},"model":"a"',
        '"model":"a","metadata":{"model":"b"}', '"a":["model","b"]',
        '"a":"\"model\":\"b\"","model":"a"', '"messages":[{"model":"b"}]',
        'model:"a"', "'model':\"a\"", '"model"="a"', '"model" "a"',
        '"model"', '"model":', '"model":,', ':"a"', '"model":"a",',
        ',"model":"a"', '"model":"a",,"n":1', '"model":"a";"n":1',
        '"model":"a" "n":1', "\"model\"\n:\n\"a\"", '"":""', '"":"model"',
        '"__proto__":{"model":"b"},"model":"a"', "\"mod\xc3\xa9l\":\"b\"",
        "\"mode\xef\xbd\x8c\":\"b\"", "\"model\xff\":\"b\"",
        "\"model\xe2\x80\x8b\":\"b\"", "\"mo\ndel\":\"b\"", '1:"a"',
        'null:"a"', '"model":"a"}{"model":"b"', '"model":"a"},{',
        '"' . 'k' x 300 . '":1,"model":"a"', '"model":"a","\ud800":1',
        '"\ud83d\ude00":1,"model":"a"',
    );

    # numbers

    push @bodies, map { ("[$_]", "{\"model\":\"m\",\"max_tokens\":$_}") } (
        '0', '-0', '-', '+1', '01', '-01', '00', '1.', '.5', '-.5', '1.5',
        '1e5', '1E5', '1e+5', '1e-5', '1e', '1e+', '1e1.5', '1.e5', '0e0',
        '0.0', '1e400', '-1e400', '1e-400', '9223372036854775807',
        '9223372036854775808', '-9223372036854775809', '9' x 300,
        '1' . '0' x 400, '0.' . '1' x 300, '0x10', '0b1', '0o7', '1_000',
        '1,000', '1 000', 'NaN', '-NaN', 'nan', 'Infinity', '-Infinity',
        'inf', '1f', '1L', '1n', "\xd9\xa1", '--1', '+-1', '1-1', '1+1',
        '1e5e5', '1..5', '0.5.5', '"1"', '1a', '0a', '-a',
    );

    # documents

    push @bodies, (
        '', ' ', "\n", 'null', 'true', 'false', 'nul', 'nulll', 'True',
        'NULL', '0', '"x"', '"', '{}', '[]', '{', '}', '[', ']', '{]', '[}',
        '{{}}', '[[]', '[]]', '{}{}', '{} {}', '[][]', '{}x', '{},', '{}null',
        '{} // c', '{} # c', '{/**/}', '// c' . "\n{}", '[1,]', '[,1]',
        '[1,,2]', '[1 2]', '[1:2]', '{"a"}', '{"a",1}', '{"a":1,}',
        '{"a":1 "b":2}', '{"a"::1}', '{,}', '[,]', '{"a":[}', '[{]}',
        'undefined', "\xef\xbb\xbf{}", "\xff\xfe{\0}\0", "{\0}\0", "\0{\0}",
        "\xfe\xff\0{\0}", "{}\0", "\0{}", "{}\x1a", "\x0c{}", "{}\x0b",
        "\xc2\xa0{}", "\xe2\x80\x8b{}", " {}", "{} ", "\t\r\n{}\t\r\n",
        "\x1e{}", "{}\n{}\n", ")]}'\n{}", 'callback({})', '({})', '<json/>',
        'data: {}', '--x', '[' x 64 . ']' x 64, '[' x 65 . ']' x 65,
        '[' x 1000, '[' x 1000 . ']' x 1000, '{"a":' x 64 . '1' . '}' x 64,
        '{"a":' x 65 . '1' . '}' x 65, '{"model":"m","a":' . '[' x 63
        . ']' x 63 . '}', '{"model":"m","a":' . '[' x 64 . ']' x 64 . '}',
        '[' . '1,' x 5000 . '1]', '[' . '"\n",' x 2000 . '""]',
        '{"model":"m","a":"' . 'QUJD' x 5000 . '"}',
        '{"model":"m","a":"' . "\xe4\xbd\xa0\xe5\xa5\xbd" x 2000 . '"}',
        '{"a":"' . 'x' x 20000 . '","model":"late"}',
        ' ' x 10000 . '{"model":"m"}' . "\n" x 10000,
    );

    return @bodies;
}


# Small damage to good bodies, the same at each run.

sub mutations {
    my ($seed, @bodies) = (20);

    my @bases = (
        '{"model":"gpt-4o","messages":[{"role":"user","content":"Hi"}],'
            . '"stream":true,"max_tokens":100}',
        '{ "n" : 1.5e3, "model" : "a\u00e9\ud83d\ude00b", "x" : [ null ] }',
        "{\"input\":[\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\",\"\\\"\"],"
            . "\"model\":\"claude\"}",
        '{"metadata":{"model":"x"},"model":"y","tools":[{"a":{}},[[]]]}',
    );

    my @insert = ('"', '\\', '{', '}', '[', ']', ',', ':', '0', '-', '.', 'e',
        ' ', "\n", "\0", "\x80", "\xff", 'u', '\\u', '/', 'a', '\n', "\xc3",
        '\ud800', ',"model":"z"', '"",');

    my $random = sub {
        $seed = ($seed * 1103515245 + 12345) % 2147483648;
        return int($seed / 65536) % $_[0];
    };

    for my $base (@bases) {
        push @bodies, $base;

        for (1 .. 60) {
            my $body = $base;
            my $at = $random->(length $body);
            my $kind = $random->(4);

            if ($kind == 0) {
                substr($body, $at, 1) = '';

            } elsif ($kind == 1) {
                substr($body, $at, 0) = $insert[$random->(scalar @insert)];

            } elsif ($kind == 2) {
                substr($body, $at, 1) = $insert[$random->(scalar @insert)];

            } else {
                $body = substr($body, 0, $at);
            }

            push @bodies, $body;
        }
    }

    return @bodies;
}


# Strict in what it can be: no NaN and Infinity.

sub python {
    my ($dir, @files) = @_;

    my $script = <<'EOF';
import json
import sys

if hasattr(sys, 'set_int_max_str_digits'):
    sys.set_int_max_str_digits(0)

def constant(name):
    raise ValueError(name)

for name in sys.argv[1:]:
    try:
        with open(name, 'rb') as f:
            root = json.loads(f.read(), parse_constant=constant)
    except Exception as e:
        print('refuse', type(e).__name__)
        continue

    model = root.get('model') if isinstance(root, dict) else None

    if isinstance(model, str):
        print('accept', model.encode('utf-8', 'surrogatepass').hex())
    else:
        print('accept -')
EOF

    my $found = grep { -x "$_/python3" } split /:/, $ENV{PATH} // '';

    return undef unless $found;
    return run('python3', '-c', $script, @files);
}


sub run {
    my (@command) = @_;

    open my $fh, '-|', @command or die "cannot run $command[0]: $!\n";

    local $/;
    my $out = <$fh> // '';

    close $fh or die "$command[0] failed: $?\n";

    return $out;
}


sub show {
    my ($body) = @_;

    $body = substr($body, 0, 100) . '...' if length $body > 100;
    $body =~ s/([^\x20-\x7e])/sprintf('<%02x>', ord $1)/ge;

    return $body;
}

###############################################################################
