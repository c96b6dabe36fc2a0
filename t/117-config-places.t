#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What is only found out when the whole configuration has been read is said of
# the file and line of the directive to blame, not of where http ends; with
# what proxy_ and llm_budget_api must not have beside them.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


need_module();


# [ title, level, what nginx says, text whose last line is the one to blame,
#   more => text ... ]
#
# The text is in an included file, other text in nginx.conf.

my @cases = (
    [ 'llm_budget_degrade with a limit that is not there', emerg =>
      'llm_budget_degrade of=none: location "/v1/" has no limit of that name',
      "llm_budget_limit l usd=1 per=day;\n"
      . "llm_budget_degrade m-std=m-mini;\n"
      . 'llm_budget_degrade of=none m-std=m-mini;' ],
    [ 'llm_budget_degrade to a model without a price', emerg =>
      'llm_budget_degrade to "m-none": this model is not in the prices',
      "llm_budget_limit l usd=1 per=day;\n\n"
      . "llm_budget_degrade m-std=m-mini\n    *=m-none;" ],
    [ 'llm_budget_unknown_model without a price', emerg =>
      'llm_budget_unknown_model: model "m-none" is not in the prices',
      "\n\nllm_budget_unknown_model price_as=m-none;" ],
    [ 'llm_budget_unknown_model of the server', emerg =>
      'llm_budget_unknown_model: model "m-none" is not in the prices',
      "\nllm_budget_unknown_model price_as=m-none;",
      include => 'server' ],
    [ 'the limit with the 33rd amount', emerg =>
      'with limit "l17" a location has more than 32 amounts',
      join("\n", map { "llm_budget_limit l$_ usd=1 tokens=1 per=day;" }
                     1 .. 17) ],
    [ 'llm_budget without prices', emerg =>
      '"llm_budget on" needs prices: add "llm_budget_prices FILE"',
      "\n\n\nllm_budget on;", prices => '', metered => '' ],
    [ 'llm_budget of http without prices', emerg =>
      '"llm_budget on" needs prices: add "llm_budget_prices FILE"',
      "\n\nllm_budget on;", prices => '', metered => '', include => 'http' ],
    [ 'llm_budget_price_alias of a model without a price', emerg =>
      'llm_budget_price_alias "best": model "m-none" is not in the prices',
      "llm_budget_price_alias good m-std;\n"
      . 'llm_budget_price_alias best m-none;', include => 'http' ],
    [ 'llm_budget_price_alias of a name that has a price', warn =>
      'llm_budget_price_alias "m-std" has no effect: the prices have a model '
      . 'of that name; remove one of them',
      "llm_budget_price_alias good m-std;\n\n"
      . 'llm_budget_price_alias m-std m-mini;', include => 'http' ],
    [ 'a credential without llm_budget_key', warn =>
      'provider "p" has a credential, but without "llm_budget_key"',
      "\nllm_budget_pass p;",
      http => 'llm_budget_provider p { pass http://standin; api_key sk-1; }' ],
    [ 'llm_budget_degrade without any limit', warn =>
      'llm_budget_degrade has no effect in location "/v1/", which has no limit '
      . 'of dollars or tokens',
      "\nllm_budget_degrade m-std=m-mini;" ],
    [ 'llm_budget_degrade with counts of requests alone', warn =>
      'llm_budget_degrade has no effect in location "/v1/", which has no limit '
      . 'of dollars or tokens',
      "llm_budget_limit r requests=5 concurrency=2 per=day;\n"
      . 'llm_budget_degrade m-std=m-mini;' ],
    [ 'llm_budget_hold_timeout below a second', emerg =>
      '"llm_budget_hold_timeout" directive must be at least 1s',
      "\n\nllm_budget_hold_timeout 999ms;" ],

    # T36, T37

    (map { [ "$_->[0] in a metered location (T36)", emerg =>
             "metered location \"/v1/\" has \"$_->[0]\": what is sent would "
             . "not be what was judged; $_->[1]",
             "\nllm_budget on;", metered => '',
             loc => ($_->[2] // $_->[0]) . ';' ],
           [ "$_->[0] of http in a metered location (T36)", emerg =>
             "metered location \"/v1/\" has \"$_->[0]\"",
             "\nllm_budget on;", metered => '',
             http => ($_->[2] // $_->[0]) . ';' ],
           [ "$_->[0] where proxy_pass has variables (T36)", emerg =>
             "metered location \"/v1/\" has \"$_->[0]\"",
             "\nllm_budget on;", metered => '',
             pass => 'proxy_pass http://$arg_a;',
             loc => ($_->[2] // $_->[0]) . ';' ] }
         [ 'proxy_pass_request_body off',
           'write "proxy_pass_request_body on;" in it' ],
         [ 'proxy_pass_request_headers off',
           'write "proxy_pass_request_headers on;" in it' ],
         [ 'proxy_method', 'keep that to locations that are not metered',
           'proxy_method PUT' ],
         [ 'proxy_set_body', 'keep that to locations that are not metered',
           'proxy_set_body x' ]),
    [ 'proxy_pass_request_body off around a proxy_pass in "if" (T36)', emerg =>
      'has "proxy_pass_request_body off"', "\nllm_budget on;", metered => '',
      pass => 'if ($arg_a) { proxy_pass http://standin; }',
      loc => 'proxy_pass_request_body off;' ],
    [ 'non_idempotent in a metered location (T37)', warn =>
      'metered location "/v1/" has "proxy_next_upstream" with non_idempotent: '
      . 'a provider may bill a call twice; leave it out, unless that is meant',
      "\nllm_budget on;", metered => '',
      loc => 'proxy_next_upstream error non_idempotent;' ],

    # llm_budget_api

    [ 'llm_budget_api before proxy_pass', emerg =>
      '"llm_budget_api" shares location "/v1/" with another content handler',
      "\nllm_budget_api;", metered => '' ],
    [ 'llm_budget_api after proxy_pass', emerg =>
      '"llm_budget_api" directive shares its location with another content '
      . 'handler, as of proxy_pass: give it a location of its own',
      "proxy_pass http://standin;\nllm_budget_api;", metered => '',
      pass => '' ],
    [ 'llm_budget_api before llm_budget', emerg =>
      'location "/v1/" has "llm_budget on" beside "llm_budget_api": remove one',
      "llm_budget_api;\nllm_budget on;", metered => '', pass => '' ],
    [ 'llm_budget_api after llm_budget', emerg =>
      'location "/v1/" has "llm_budget on" beside "llm_budget_api": remove one',
      "\nllm_budget on;", metered => '', pass => '', loc => 'llm_budget_api;' ],
);

for my $case (@cases) {
    my ($title, $level, $wanted, $text, %opt) = @$case;
    my $line = 1 + $text =~ tr/\n//;
    my ($passed, $said) = said($text, %opt);

    is($passed ? 'warn' : 'emerg', $level,
       "$title " . ($level eq 'warn' ? 'passes' : 'is refused'));
    like($said, qr/\[$level\] [^\n]*\Q$wanted\E[^\n]*in \S+\/part:$line$/m,
         "with the line of the included file");
}


# what must not be taken for one of these

my @good = (
    [ 'settings of http that the location takes back', '',
      http => 'proxy_pass_request_body off; proxy_pass_request_headers off; '
              . 'proxy_next_upstream error non_idempotent;',
      loc => 'proxy_pass_request_body on; proxy_pass_request_headers on; '
             . 'proxy_next_upstream error;' ],
    [ 'settings of http in a location without proxy_pass', '',
      http => 'proxy_pass_request_body off; proxy_method PUT;', pass => '' ],
    [ 'settings of a location that is not metered',
      "llm_budget off;\nproxy_pass_request_body off;\nproxy_method PUT;\n"
      . "proxy_set_body x;\nproxy_next_upstream error non_idempotent;",
      metered => '' ],
    [ 'llm_budget_degrade with a limit of tokens',
      'llm_budget_limit t requests=5 output_tokens=9 per=day; '
      . 'llm_budget_degrade m-std=m-mini;' ],
    [ 'llm_budget_degrade of a limit of requests, which is named',
      'llm_budget_limit r requests=5 per=day; '
      . 'llm_budget_degrade of=r m-std=m-mini;' ],
    [ 'llm_budget_degrade of a server, with the limits in its locations',
      "llm_budget on;\nllm_budget_degrade of=r m-std=m-mini;\n"
      . "llm_budget_degrade m-std=m-mini;", include => 'server', metered => '',
      loc => 'llm_budget_limit r requests=5 usd=1 per=day;' ],
    [ 'a credential of a server, with the key in its locations',
      "llm_budget on;\nllm_budget_pass p;", include => 'server',
      metered => '', loc => 'llm_budget_key $arg_a;',
      http => 'llm_budget_provider p { pass http://standin; api_key sk-1; }' ],
    [ 'llm_budget_api beside llm_budget off',
      "llm_budget off;\nllm_budget_api;", metered => '', pass => '' ],
    [ 'llm_budget_api in a server that is metered', "llm_budget on;",
      include => 'server', metered => 'llm_budget_api;', pass => '' ],
);

for my $case (@good) {
    my ($title, $text, %opt) = @$case;
    my ($passed, $said) = said($text, %opt);

    ok($passed, "$title: it passes") or diag($said);
    unlike($said, qr/\[(?:warn|emerg)\]/, 'without a word');
}

ledger_answers();
done_testing();


# What nginx -t says, with the text in an included file.

sub said {
    my ($text, %opt) = @_;

    my %at = map { $_ => $opt{$_} // '' } qw(http server loc);
    my $prices = $opt{prices} // 'llm_budget_prices %%PRICES%%;';
    my $metered = $opt{metered} // 'llm_budget on;';
    my $pass = $opt{pass} // 'proxy_pass http://standin;';

    $at{$opt{include} // 'loc'} .= "\ninclude part;";

    my $conf = <<"END";
http {
    $prices
    upstream standin { server 127.0.0.1:9; }
    $at{http}

    server {
        listen 127.0.0.1:%%PORT%%;
        $at{server}

        location /v1/ {
            $metered
            $at{loc}
            $pass
        }
    }
}
END

    return check_conf($conf, files => { part => "$text\n" });
}


# The API answers in a server where all is metered.

sub ledger_answers {
    my $nginx = start_nginx(conf => <<'END');

http {
    llm_budget_prices %%PRICES%%;

    server {
        listen 127.0.0.1:%%PORT%%;
        llm_budget on;

        location /llm/api/ {
            llm_budget_api;
        }
    }
}
END

    my $answer = get('/llm/api/ledger');

    is($answer->{status}, 200, 'llm_budget_api answers in a metered server');
    like($answer->{body}, qr/"accounts"/, 'with the ledger');
    $nginx->stop();
}
