#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# T56: a price file that is broken or implausible fails "nginx -t", with the
# file and, where there is one, the line; what is merely left out is a warning.
# A reload does not move a price by more than a factor of ten.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


need_module();

my $good = entry('m-good', input => '2.5e-06', output => '1e-05');

refused('cut short (T56)', "{\n$good,\n\"m-bad\": {\n", 'not JSON', 4);
refused('with a comma too many', "{\n$good,\n}\n", 'not JSON', 3);
refused('with something behind the object', "{\n$good\n}\n{}\n", 'not JSON',
        4);
refused('that is an HTML page', "<html>\nnot found\n</html>\n", 'not JSON', 1);
refused('that is an array', "[\n1\n]\n",
        'not an object with an entry for each model');
refused('that is empty', '', 'not JSON');
refused('that has no entry', "{}\n",
        'not an object with an entry for each model');
refused('with an entry that is no object', "{\n$good,\n\"m-bad\": 1\n}\n",
        'the entry is not an object', 3);
refused('with a model twice', "{\n$good,\n$good\n}\n", 'not JSON: duplicate',
        3);
refused('with a negative price (T21)',
        file('m-bad', input => '-2.5e-06', output => '1e-05'),
        'is negative: give USD per token, 0 or more', 3);
refused('with a price that is text',
        file('m-bad', input => '"cheap"', output => '1e-05'),
        'is not a number: give USD per token, as 2.5e-06', 3);
refused('with a price that is an object',
        file('m-bad', input => '{}', output => '1e-05'),
        'is not a number', 3);
refused('with a price that is true',
        file('m-bad', input => 'true', output => '1e-05'),
        'is not a number', 3);
refused('with a price per million tokens (T56)',
        file('m-bad', input => '2.50', output => '10.00'),
        'is over 1 USD per token: give USD per token, not per million', 3);
refused('with a search per thousand (T18)',
        file('m-bad', input => '2.5e-06', output => '1e-05',
             more => '"search_context_cost_per_query": 10'),
        'a search is over 1 USD: give USD per search, not per thousand', 3);
refused('with a price and "free": true (T31)',
        file('m-bad', input => '2.5e-06', output => '1e-05',
             more => '"free": true'),
        'has "free": true and a price: remove one of them', 3);
refused('with zeros and "free": false (T31)',
        file('m-bad', input => '0', output => '0', more => '"free": false'),
        'has "free": false and zero prices', 3);
refused('with a "free" that is neither true nor false',
        file('m-bad', input => '0', output => '0', more => '"free": "yes"'),
        'is neither true nor false', 3);
refused('with a ceiling that is no number of tokens',
        file('m-bad', input => '1e-06', output => '1e-05',
             more => '"max_output_tokens": -1'),
        'is not a number of tokens', 3);
refused('with a nameless model',
        file('', input => '1e-06', output => '1e-05'),
        'the name of a model has 1 to 256 bytes', 3);
refused('whose only entry has no price (T06)',
        qq({\n"m-bad": { "mode": "chat", "max_output_tokens": 5 }\n}\n),
        qr/no entry has plausible "input_cost_per_token"/);
refused('whose only entry has an input price alone (T06)',
        qq({\n"m-bad": { "mode": "chat", "input_cost_per_token": 1e-06 }\n}\n),
        'no entry has plausible');
refused('whose only entry is the documentation',
        qq({\n"sample_spec": { "input_cost_per_token": 1e-06,
           "output_cost_per_token": 1e-06 }\n}\n), 'no entry has plausible');

my $text = passes('one entry above a cent a token',
                  file('m-dear', input => '0.02', output => '0.02'));

like($text, qr/\[warn\].*prices "\S+\/p\.json".*m-dear/,
     'is left out with a warning that names it');

$text = passes('"implausible_ok": true',
               file('m-dear', input => '0.02', output => '0.02',
                    more => '"implausible_ok": true'));

unlike($text, qr/\[warn\]/, 'is taken at its word');

passes('a byte order mark of no editor',
       file('m-any', input => '"2.5e-06"', output => '1E-5'));
passes('a free model', file('m-own', more => '"free": true'));
passes('embeddings without an output price',
       file('m-emb', input => '2e-08', more => '"mode": "embedding"'));
passes('an entry without prices beside one with',
       qq({\n$good,\n"m-image": { "mode": "image_generation",
          "output_cost_per_image": 0.04 }\n}\n));

reloads();
done_testing();


# One entry on a line of its own.

sub entry {
    my ($name, %opt) = @_;

    my @members = ('"litellm_provider": "openai"');

    push @members, "\"input_cost_per_token\": $opt{input}"
        if defined $opt{input};
    push @members, "\"output_cost_per_token\": $opt{output}"
        if defined $opt{output};
    push @members, $opt{more} if defined $opt{more};

    return "\"$name\": { " . join(', ', @members) . ' }';
}


# A good entry on line 2, and one on line 3.

sub file {
    return "{\n$good,\n" . entry(@_) . "\n}\n";
}


sub conf {
    return llm_conf(prices => 'p.json');
}


sub refused {
    my ($what, $prices, $why, $line) = @_;

    my ($passed, $text) = check_conf(conf(), files => { 'p.json' => $prices });

    $line //= '\d+';
    $why = '.*' . quotemeta($why) if !ref $why;

    like($passed ? 'it passed' : $text,
         qr/\[emerg\].*prices "\S+\/p\.json":$line: $why.*nginx\.conf:/,
         "a price file $what is refused");
}


sub passes {
    my ($what, $prices) = @_;

    my ($passed, $text) = check_conf(conf(), files => { 'p.json' => $prices });

    ok($passed, "$what passes") or diag($text);

    return $text;
}


# The prices of a running nginx.

sub reloads {
    my $standin = start_standin();
    my $nginx = start_nginx(conf => conf(),
                            files => { 'p.json' => prices_of('1e-06') });

    is(cost(), 1_000_000, 'a call is priced');

    write_file("$nginx->{dir}/p.json", prices_of('5e-06'));
    ok($nginx->reload(), 'the file changes, and nginx reloads');
    ok(wait_for(sub { cost() == 5_000_000 }), 'calls have the new price');

    for my $price ('51e-06', '4e-07', '0.0') {
        write_file("$nginx->{dir}/p.json", prices_of($price));
        $nginx->signal('HUP');

        my $pattern = qr/\[emerg\].*price of "m-std" would move from 5000000 /;
        my $n = { '51e-06' => 1, '4e-07' => 2, '0.0' => 3 }->{$price};

        ok(wait_for(sub { my @all = $nginx->log_text() =~ /$pattern/g;
                          return @all >= $n; }),
           "a reload from 5e-06 to $price is refused (T56)");
        is(cost(), 5_000_000, 'and the price stays');
    }

    $nginx->stop(allow => qr/would move from/);
}


sub prices_of {
    my ($input) = @_;

    return "{\n" . entry('m-std', input => $input, output => '1e-05') . "\n}\n";
}


# What a call of 1000 tokens and no output costs, by its usage line.

sub cost {
    my $n = usage_lines();

    post_json('/v1/chat/completions',
              { model => 'm-std', max_tokens => 5,
                messages => [ { role => 'user', content => 'hello' } ] },
              headers => { Authorization => 'Bearer k' },
              standin => 'prompt=1000; out=0');

    wait_for(sub { my @lines = usage_lines(); @lines > $n });

    return (usage_lines())[-1]{cost_nusd};
}
