#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What "nginx -t" says of every directive: accepted where right, refused where
# wrong, twice, or in the wrong place, with a message that names the value.


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";
use Test::More;

use LLMBudget;


need_module();

$ENV{LLM_BUDGET_TEST_KEY} = 'sk-from-the-environment';
delete $ENV{LLM_BUDGET_TEST_UNSET};

my %files = (
    'key' => "sk-file\n",
    'empty' => " \n",
    'two' => "sk-one\nsk-two\n",
    'long' => 'k' x 5000,
);

my $usd = 'llm_budget_limit l usd=1;';


# [ title, where => text ..., what nginx says; nothing: it passes ]
#
# where: http, server, loc; plain: a location that is not metered

my @cases = (

    # llm_budget

    [ 'llm_budget on works', loc => '' ],
    [ 'llm_budget works on the http level', http => 'llm_budget on;' ],
    [ 'llm_budget works on the server level', server => 'llm_budget on;' ],
    [ 'llm_budget takes on or off', plain => 'llm_budget yes;',
      'invalid value "yes" in "llm_budget" directive, it must be "on" or '
      . '"off"' ],
    [ 'llm_budget is refused twice', loc => 'llm_budget on;',
      '"llm_budget" directive is duplicate' ],
    [ 'llm_budget takes one argument', plain => 'llm_budget on off;',
      'invalid number of arguments in "llm_budget"' ],
    [ 'llm_budget is refused outside of http', main => 'llm_budget on;',
      '"llm_budget" directive is not allowed here' ],
    [ 'llm_budget is refused in "if"', loc => 'if ($arg_a) { llm_budget on; }',
      '"llm_budget" directive is not allowed here' ],
    [ 'a metered location needs prices', prices => '',
      '"llm_budget on" needs prices: add "llm_budget_prices FILE" on the http '
      . 'level' ],
    [ 'prices are needed only where something is metered', prices => '',
      metered => 'llm_budget off;' ],
    [ 'prices may stand below the server',
      prices => '', last => 'llm_budget_prices %%PRICES%%;' ],

    # llm_budget_zone

    [ 'llm_budget_zone works', http => 'llm_budget_zone z 1m;' ],
    [ 'llm_budget_zone takes a size', http => 'llm_budget_zone z 1x;',
      'invalid zone size "1x"' ],
    [ 'llm_budget_zone is not too small', http => 'llm_budget_zone z 128k;',
      'zone "z" is too small: it needs at least 256k' ],
    [ 'llm_budget_zone works at the least size',
      http => 'llm_budget_zone z 256k;' ],
    [ 'llm_budget_zone takes a name', http => 'llm_budget_zone "" 1m;',
      '"llm_budget_zone" directive has an empty name' ],
    [ 'llm_budget_zone is refused twice',
      http => 'llm_budget_zone z 1m; llm_budget_zone y 1m;',
      '"llm_budget_zone" directive is duplicate' ],
    [ 'llm_budget_zone takes two arguments', http => 'llm_budget_zone z;',
      'invalid number of arguments in "llm_budget_zone"' ],
    [ 'llm_budget_zone is refused in a server',
      server => 'llm_budget_zone z 1m;',
      '"llm_budget_zone" directive is not allowed here' ],
    [ 'the name of a zone is not taken from another module',
      http => 'limit_req_zone $uri zone=z:1m rate=1r/s; '
              . 'llm_budget_zone z 1m;',
      'the shared memory zone "z" is already declared' ],

    # llm_budget_prices; what is in the file: 115-price-files.t

    [ 'llm_budget_prices names a file that cannot be opened',
      prices => 'llm_budget_prices none.json;',
      qr/open\(\) "\S+\/none\.json" failed/ ],
    [ 'llm_budget_prices is refused twice',
      http => 'llm_budget_prices %%PRICES%%;',
      '"llm_budget_prices" directive is duplicate' ],
    [ 'llm_budget_prices is refused in a server',
      server => 'llm_budget_prices %%PRICES%%;',
      '"llm_budget_prices" directive is not allowed here' ],

    # llm_budget_price_alias

    [ 'llm_budget_price_alias works',
      http => 'llm_budget_price_alias best m-std;' ],
    [ 'llm_budget_price_alias works above the prices',
      prices => '', http => 'llm_budget_price_alias best m-std; '
                            . 'llm_budget_prices %%PRICES%%;' ],
    [ 'llm_budget_price_alias wants a priced model',
      http => 'llm_budget_price_alias best m-none;',
      'llm_budget_price_alias "best": model "m-none" is not in the prices: '
      . 'add it to the price file, or name a model that is there' ],
    [ 'an alias is not the target of another',
      http => 'llm_budget_price_alias a m-std; llm_budget_price_alias b a;',
      'llm_budget_price_alias "b": model "a" is not in the prices' ],
    [ 'llm_budget_price_alias is refused twice for one name',
      http => 'llm_budget_price_alias a m-std; '
              . 'llm_budget_price_alias a m-mini;',
      'duplicate price alias "a"' ],
    [ 'llm_budget_price_alias takes two arguments',
      http => 'llm_budget_price_alias a;',
      'invalid number of arguments in "llm_budget_price_alias"' ],
    [ 'llm_budget_price_alias is refused in a location',
      loc => 'llm_budget_price_alias a m-std;',
      '"llm_budget_price_alias" directive is not allowed here' ],

    # llm_budget_expire

    [ 'llm_budget_expire charge works', http => 'llm_budget_expire charge;' ],
    [ 'llm_budget_expire release works', http => 'llm_budget_expire release;' ],
    [ 'llm_budget_expire takes nothing else', http => 'llm_budget_expire void;',
      '"llm_budget_expire" directive must be "charge" or "release"' ],
    [ 'llm_budget_expire is refused twice',
      http => 'llm_budget_expire charge; llm_budget_expire charge;',
      '"llm_budget_expire" directive is duplicate' ],
    [ 'llm_budget_expire is refused in a server',
      server => 'llm_budget_expire charge;',
      '"llm_budget_expire" directive is not allowed here' ],

    # llm_budget_provider

    [ 'llm_budget_provider works with a URL alone',
      http => 'llm_budget_provider p { pass https://standin/v1; }' ],
    [ 'llm_budget_provider works with all parameters',
      http => 'llm_budget_provider p { pass http://standin; host h; '
              . 'api_key sk-1; api_key_header X-Key; }' ],
    [ 'api_key is read from a file',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key file:key; }' ],
    [ 'api_key is read from the environment',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key env:LLM_BUDGET_TEST_KEY; }' ],
    [ 'llm_budget_provider wants a "pass"',
      http => 'llm_budget_provider p { host h; }',
      'provider "p" has no "pass"' ],
    [ 'llm_budget_provider wants http or https',
      http => 'llm_budget_provider p { pass standin/v1; }',
      'provider URL "standin/v1" must begin with http:// or https://' ],
    [ 'llm_budget_provider wants a host in its URL',
      http => 'llm_budget_provider p { pass https:///v1; }',
      'provider URL "https:///v1" must be a scheme, a host' ],
    [ 'llm_budget_provider wants no query',
      http => 'llm_budget_provider p { pass https://standin/v1?a=b; }',
      'provider URL "https://standin/v1?a=b" must be a scheme, a host' ],
    [ 'llm_budget_provider is refused twice for one name',
      http => 'llm_budget_provider p { pass http://standin; } '
              . 'llm_budget_provider p { pass http://standin; }',
      'duplicate provider "p"' ],
    [ 'a parameter that llm_budget_provider does not know is named',
      http => 'llm_budget_provider p { pass http://standin; key k; }',
      'unknown parameter "key" in a provider: it is pass, host, api_key or '
      . 'api_key_header' ],
    [ 'a parameter of llm_budget_provider has one value',
      http => 'llm_budget_provider p { pass http://standin http://b; }',
      '"pass" in a provider takes one value' ],
    (map { [ "\"$_->[0]\" is refused twice in llm_budget_provider",
             http => 'llm_budget_provider p { pass http://standin; '
                     . "$_->[0] $_->[1]; $_->[0] $_->[1]; }",
             "duplicate \"$_->[0]\" in a provider" ] }
         [ host => 'h' ], [ api_key => 'sk-1' ],
         [ api_key_header => 'x-key' ]),
    [ '"pass" is refused twice in llm_budget_provider',
      http => 'llm_budget_provider p { pass http://standin; pass http://b; }',
      'duplicate "pass" in a provider' ],
    [ 'a credential file that is not there is named',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key file:none; }',
      qr/open\(\) "\S+\/none" failed/ ],
    [ 'an empty credential file is refused',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key file:empty; }',
      qr/there is no credential in "\S+\/empty"/ ],
    [ 'a file too long for a credential is refused',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key file:long; }',
      qr/there is no credential in "\S+\/long"/ ],
    [ 'a credential of two lines, which would be two headers, is refused '
      . '(T50)',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key file:two; }',
      'the api_key of provider "p" has a line break or a control character' ],
    [ 'a variable that the environment does not have is named',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key env:LLM_BUDGET_TEST_UNSET; }',
      'the environment has no "LLM_BUDGET_TEST_UNSET" for api_key' ],
    [ 'an empty credential is refused',
      http => 'llm_budget_provider p { pass http://standin; api_key ""; }',
      'api_key is empty: give file:PATH, env:NAME or the credential, or '
      . 'leave api_key out if clients send their own' ],
    [ 'a header name with a colon is refused',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key_header "X-Key:"; }',
      'invalid header name "X-Key:" in api_key_header' ],
    [ 'an empty header name is refused',
      http => 'llm_budget_provider p { pass http://standin; '
              . 'api_key_header ""; }',
      'invalid header name "" in api_key_header' ],
    [ 'llm_budget_provider is refused in a server',
      server => 'llm_budget_provider p { pass http://standin; }',
      '"llm_budget_provider" directive is not allowed here' ],

    # llm_budget_pass

    [ 'llm_budget_pass works with a provider',
      http => 'llm_budget_provider p { pass http://standin; }',
      loc => 'llm_budget_pass p;' ],
    [ 'llm_budget_pass works with a URL',
      loc => 'llm_budget_pass http://standin/v1;' ],
    [ 'llm_budget_pass wants a provider that is known',
      loc => 'llm_budget_pass p;',
      'unknown provider "p": define it above with "llm_budget_provider p '
      . '{ ... }", or give a URL' ],
    [ 'llm_budget_pass wants http or https', loc => 'llm_budget_pass ftp://a;',
      'provider URL "ftp://a" must begin with http:// or https://' ],
    [ 'llm_budget_pass is refused twice',
      loc => 'llm_budget_pass http://a; llm_budget_pass http://b;',
      '"llm_budget_pass" directive is duplicate' ],

    # llm_budget_key

    [ 'llm_budget_key works', loc => 'llm_budget_key $arg_a;' ],
    [ 'llm_budget_key works with several values',
      loc => 'llm_budget_key $arg_a $remote_addr x-$arg_b;' ],
    [ 'llm_budget_key names a variable that is not known',
      loc => 'llm_budget_key $nope;', 'unknown "nope" variable' ],
    [ 'llm_budget_key wants a value', loc => 'llm_budget_key;',
      'invalid number of arguments in "llm_budget_key"' ],
    [ 'llm_budget_key is refused twice',
      loc => 'llm_budget_key $arg_a; llm_budget_key $arg_b;',
      '"llm_budget_key" directive is duplicate' ],

    # llm_budget_limit

    (map { [ "llm_budget_limit works with $_", loc => "llm_budget_limit l $_;" ]
         } 'usd=1', 'usd=0', 'usd=0.000000001', 'usd=9000000', 'usd=$arg_a',
           'tokens=1', 'input_tokens=1', 'output_tokens=1', 'requests=1',
           'concurrency=1', 'requests=9000000000000000',
           'usd=1 tokens=2 input_tokens=3 output_tokens=4 requests=5 '
           . 'concurrency=6', 'usd=1 key=$arg_a', 'usd=1 key=$arg_a:$arg_b',
           'usd=1 key=all', 'usd=1 code=my_code',
           map { "usd=1 per=$_" } qw(minute hour day week month year
                                     lifetime)),
    (map { [ "llm_budget_limit refuses $_->[0]",
             loc => "llm_budget_limit l $_->[0];", $_->[1] ] }
         [ 'usd=', 'invalid amount "usd=" of limit "l": it must be a number '
                   . 'from 0 to 9000000 USD' ],
         [ 'usd=-1', 'invalid amount "usd=-1" of limit "l"' ],
         [ 'usd=1x', 'invalid amount "usd=1x" of limit "l"' ],
         [ 'usd=$', 'invalid variable name' ],
         [ 'usd=9000001', 'invalid amount "usd=9000001" of limit "l"' ],
         [ 'usd=1e300', 'invalid amount "usd=1e300" of limit "l"' ],
         [ 'usd=nan', 'invalid amount "usd=nan" of limit "l"' ],
         [ 'tokens=1.5', 'invalid amount "tokens=1.5" of limit "l": it must '
                         . 'be a number from 0 to 9000000000000000' ],
         [ 'requests=-1', 'invalid amount "requests=-1" of limit "l"' ],
         [ 'requests=9000000000000001',
           'invalid amount "requests=9000000000000001" of limit "l"' ],
         [ 'tokens=99999999999999999999',
           'invalid amount "tokens=99999999999999999999" of limit "l"' ],
         [ 'usd=$nope', 'unknown "nope" variable' ],
         [ 'usd=1 usd=2', 'duplicate amount "usd=2" of limit "l": another '
                              . 'amount of a unit needs a limit of another '
                              . 'name' ],
         [ 'usd=1 per=fortnight', 'unknown period "fortnight": it is minute, '
           . 'hour, day, week, month, year or lifetime' ],
         [ 'usd=1 key=$nope', 'unknown "nope" variable' ],
         [ 'usd=1 key=', 'has an empty "key=" and would never apply: leave '
                         . 'it out for an account for each caller, or write '
                         . 'key=all' ],
         [ 'usd=1 key=a key=b', 'has a duplicate "key="' ],
         [ 'usd=1 per=day per=day', 'has a duplicate "per="' ],
         [ 'usd=1 code=a code=b', 'has a duplicate "code="' ],
         (map { [ "usd=1 code=$_", "invalid parameter \"code=$_\" of limit "
                  . '"l": a code has 1 to 64 letters, digits, "_", "." or '
                  . '"-", and no variables' ] }
              '', '$arg_a', 'a/b', 'c' x 65),
         [ 'euro=1', 'invalid parameter "euro=1" of limit "l": it takes usd=, '
                     . 'tokens=, input_tokens=, output_tokens=, requests=, '
                     . 'concurrency=, key=, per= and code=' ],
         [ 'usd', 'invalid parameter "usd" of limit "l"' ],
         [ 'per=day', '"llm_budget_limit" directive needs an amount: usd=, '
           . 'tokens=, input_tokens=, output_tokens=, requests= or '
           . 'concurrency=' ]),
    [ 'llm_budget_limit wants a name', loc => 'llm_budget_limit usd=1 per=day;',
      '"llm_budget_limit" directive needs a name before its parameters' ],
    (map { [ "llm_budget_limit takes the name $_",
             loc => "llm_budget_limit $_ usd=1;" ] }
         'aB-1_2.c', 'l' x 64),
    (map { [ "llm_budget_limit refuses the name $_",
             loc => "llm_budget_limit $_ usd=1;",
             'invalid name "' . tr/'//dr . '" of a limit: it has 1 to 64 '
             . 'letters, digits, "_", "." or "-" in /' ] }
         'a/b', "'a b'", 'a:b', "m\x{c3}\x{a4}rz", 'l' x 65),
    [ 'llm_budget_limit takes no variables in its name',
      loc => 'llm_budget_limit l$arg_a usd=1;',
      'invalid name "l$arg_a" of a limit: it has 1 to 64 letters, digits, '
      . '"_", "." or "-", and takes no variables: those are for key=' ],
    [ 'llm_budget_limit takes two arguments at least',
      loc => 'llm_budget_limit l;',
      'invalid number of arguments in "llm_budget_limit"' ],
    [ 'llm_budget_limit is refused twice for one name in a location',
      loc => 'llm_budget_limit l usd=1; llm_budget_limit l tokens=1;',
      'duplicate limit "l" in one location: one directive takes several '
      . 'units; another period needs another name' ],
    [ 'llm_budget_limit may have one name on two levels', server => $usd,
      loc => $usd ],
    [ 'llm_budget_limit works 24 times in a location',
      loc => join(' ', map { "llm_budget_limit l$_ usd=1;" } 1 .. 24) ],
    [ 'llm_budget_limit is refused 25 times in a location',
      loc => join(' ', map { "llm_budget_limit l$_ usd=1;" } 1 .. 25),
      '"llm_budget_limit" directive has more than 24 limits in one location' ],
    [ 'the limits of a location have 32 amounts',
      loc => join(' ', map { "llm_budget_limit l$_ usd=1 tokens=1;" } 1 .. 16)
    ],
    [ 'the limits of a location have no more than 32 amounts',
      loc => join(' ', map { "llm_budget_limit l$_ usd=1 tokens=1;" }
                       1 .. 17),
      'with limit "l17" a location has more than 32 amounts in its limits: '
      . 'remove some' ],

    # llm_budget_degrade

    (map { [ "llm_budget_degrade works with $_",
             http => 'llm_budget_provider p { pass http://standin; } '
                     . 'llm_budget_price_alias small m-mini;',
             loc => "$usd llm_budget_degrade $_;" ] }
         'at=75% m-std=m-mini', 'at=75 m-std=m-mini', 'at=0 m-std=m-mini',
         'at=100% m-std=m-mini', '*=m-mini at=10',
         'at=75% m-std=m-mini c-std=m-mini', 'at=5 of=l m-std=m-mini',
         'at=5 drop=reasoning_effort,tools m-std=m-mini',
         'at=5 max_output=100 m-std=m-mini', 'at=5 pass=p m-std=m-mini',
         'at=5 pass=http://standin m-std=m-mini', 'at=5 m-std=small'),
    (map { [ "llm_budget_degrade refuses $_->[0]",
             loc => "$usd llm_budget_degrade $_->[0];", $_->[1] ] }
         [ 'at=75% of=l', '"llm_budget_degrade" directive needs at least one '
                          . 'FROM=TO pair of models' ],
         [ 'at=101 m-std=m-mini', 'invalid parameter "at=101" of '
           . 'llm_budget_degrade: at= is a percentage from 0 to 100, as '
           . 'at=75%' ],
         [ 'at=-1 m-std=m-mini', 'invalid parameter "at=-1"' ],
         [ 'at=x m-std=m-mini', 'invalid parameter "at=x"' ],
         [ 'at= m-std=m-mini', 'invalid parameter "at="' ],
         [ 'at=% m-std=m-mini', 'invalid parameter "at=%"' ],
         [ 'at=5 m-std=m-none', 'llm_budget_degrade to "m-none": '
           . 'this model is not in the prices: add it to the price file, or '
           . 'name a model that is there' ],
         [ 'at=5 m-std=', 'invalid parameter "m-std="' ],
         [ 'at=5 =m-mini', 'invalid parameter "=m-mini"' ],
         [ 'at=5 m-std', 'invalid parameter "m-std" of llm_budget_degrade: '
           . 'it takes FROM=TO, at=, of=, drop=, max_output= and pass=' ],
         [ 'at=5 of=none m-std=m-mini', 'llm_budget_degrade of=none: '
           . 'location "/v1/" has no limit of that name: name one that it '
           . 'has, or leave of= out' ],
         [ 'at=5 max_output=0 m-std=m-mini',
           'invalid parameter "max_output=0" of llm_budget_degrade: '
           . 'max_output= is a number of tokens, at least 1' ],
         [ 'at=5 max_output=x m-std=m-mini',
           'invalid parameter "max_output=x"' ],
         [ 'at=5 drop=,a m-std=m-mini', 'has an empty name in "drop="' ],
         [ 'at=5 drop=a,model m-std=m-mini', '"model" cannot be dropped, '
           . 'as it decides what a call costs: leave it out of "drop="' ],
         (map { [ "at=5 drop=$_ m-std=m-mini", "\"$_\" cannot be dropped" ] }
              qw(messages input prompt stream max_tokens max_output_tokens
                 max_completion_tokens)),
         [ 'at=5 drop=' . join(',', map { "a$_" } 1 .. 17) . ' m-std=m-mini',
           'drops more than 16 members' ],
         [ 'at=5 pass=none m-std=m-mini', 'unknown provider "none"' ]),
    [ 'the target of llm_budget_degrade is looked up when prices come last',
      prices => '', last => 'llm_budget_prices %%PRICES%%;',
      loc => 'llm_budget_degrade at=5 m-std=m-none;',
      'this model is not in the prices' ],
    [ 'llm_budget_degrade works 16 times in a location',
      loc => join(' ', ('llm_budget_degrade at=5 m-std=m-mini;') x 16) ],
    [ 'llm_budget_degrade is refused 17 times in a location',
      loc => join(' ', ('llm_budget_degrade at=5 m-std=m-mini;') x 17),
      '"llm_budget_degrade" directive has more than 16 rungs' ],

    # llm_budget_endpoint

    (map { [ "llm_budget_endpoint works with $_",
             loc => "llm_budget_endpoint $_;" ] }
         'GET /v1/files free', 'POST /v1/batches refused',
         (map { "POST /v1/own metered $_" } qw(chat completions responses
                                               embeddings messages)),
         'GET /v1/models/* free', 'DELETE /v1/x free chat'),
    (map { [ "llm_budget_endpoint refuses $_->[0]",
             loc => "llm_budget_endpoint $_->[0];", $_->[1] ] }
         [ 'GET /v1/files paid', 'an endpoint is "metered", "free" or '
                                 . '"refused", not "paid"' ],
         [ 'POST /v1/own metered', 'needs a dialect after "metered": chat, '
           . 'completions, responses, embeddings or messages' ],
         [ 'GET /v1/own metered chat', 'can meter only POST requests' ],
         [ 'POST /v1/own metered gemini', 'unknown dialect "gemini": it is '
           . 'chat, completions, responses, embeddings or messages' ],
         [ 'POST v1/own metered chat', 'invalid endpoint path "v1/own": '
           . 'it begins with "/", and has no empty segment, ".", "..", "%", '
           . '";", "\\", "?" or control character' ],
         [ 'POST /v1/../own free', 'invalid endpoint path "/v1/../own"' ],
         [ 'POST /v1//own free', 'invalid endpoint path "/v1//own"' ],
         [ 'POST /v1/own', 'invalid number of arguments in '
                           . '"llm_budget_endpoint"' ]),

    # llm_budget_reserve

    (map { [ "llm_budget_reserve works with $_",
             loc => "llm_budget_reserve $_;" ] }
         'bound', 'default', 'off', 'bound output=100',
         'default bytes_per_token=3', 'default output=1 bytes_per_token=1'),
    (map { [ "llm_budget_reserve refuses $_->[0]",
             loc => "llm_budget_reserve $_->[0];", $_->[1] ] }
         [ 'on', '"llm_budget_reserve" directive must be "bound", "default" '
                 . 'or "off"' ],
         [ 'bound output=0', 'invalid value in "output=0": it is a number from '
                             . '1 to 100000000' ],
         [ 'bound output=', 'invalid value in "output="' ],
         [ 'bound output=-1', 'invalid value in "output=-1"' ],
         [ 'bound output=100000001', 'invalid value in "output=100000001"' ],
         [ 'default bytes_per_token=x',
           'invalid value in "bytes_per_token=x"' ],
         [ 'bound input=5', 'invalid parameter "input=5" of '
                            . 'llm_budget_reserve: it takes output= and '
                            . 'bytes_per_token=' ],
         [ 'bound output=1 bytes_per_token=1 output=2',
           'invalid number of arguments' ]),
    [ 'llm_budget_reserve is refused twice',
      loc => 'llm_budget_reserve off; llm_budget_reserve off;',
      '"llm_budget_reserve" directive is duplicate' ],

    # llm_budget_clamp

    [ 'llm_budget_clamp works', loc => 'llm_budget_clamp 100;' ],
    [ 'llm_budget_clamp off works', loc => 'llm_budget_clamp off;' ],
    (map { [ "llm_budget_clamp refuses $_", loc => "llm_budget_clamp $_;",
             '"llm_budget_clamp" directive must be a number of tokens, at '
             . 'least 1, or "off"' ] } '0', '-1', 'on', '5k'),
    [ 'llm_budget_clamp is refused twice',
      loc => 'llm_budget_clamp off; llm_budget_clamp 5;',
      '"llm_budget_clamp" directive is duplicate' ],

    # llm_budget_unknown_model

    [ 'llm_budget_unknown_model deny works',
      loc => 'llm_budget_unknown_model deny;' ],
    [ 'llm_budget_unknown_model price_as works',
      loc => 'llm_budget_unknown_model price_as=m-std;' ],
    (map { [ "llm_budget_unknown_model refuses \"$_\"",
             loc => "llm_budget_unknown_model $_;",
             '"llm_budget_unknown_model" directive must be "deny" or '
             . '"price_as=MODEL"' ] } 'allow', 'price_as='),
    [ 'llm_budget_unknown_model wants a priced model',
      loc => 'llm_budget_unknown_model price_as=m-none;',
      'llm_budget_unknown_model: model "m-none" is not in the prices: add it '
      . 'to the price file, or name a model that is there' ],
    [ 'llm_budget_unknown_model is refused twice',
      loc => 'llm_budget_unknown_model deny; llm_budget_unknown_model deny;',
      '"llm_budget_unknown_model" directive is duplicate' ],

    # llm_budget_inject_usage, llm_budget_show_amounts

    (map { [ "$_ on works", loc => "$_ on;" ],
           [ "$_ off works", loc => "$_ off;" ],
           [ "$_ takes on or off", loc => "$_ maybe;",
             "invalid value \"maybe\" in \"$_\" directive" ],
           [ "$_ is refused twice", loc => "$_ on; $_ off;",
             "\"$_\" directive is duplicate" ],
           [ "$_ is refused outside of http", main => "$_ on;",
             "\"$_\" directive is not allowed here" ] }
         qw(llm_budget_inject_usage llm_budget_show_amounts)),

    # llm_budget_status

    [ 'llm_budget_status works', loc => 'llm_budget_status 402;' ],
    [ 'llm_budget_status is an error at least',
      loc => 'llm_budget_status 399;', 'value must be between 400 and 599' ],
    [ 'llm_budget_status is a status at most',
      loc => 'llm_budget_status 600;', 'value must be between 400 and 599' ],
    [ 'llm_budget_status is a number', loc => 'llm_budget_status payme;',
      'invalid number' ],
    [ 'llm_budget_status is refused twice',
      loc => 'llm_budget_status 402; llm_budget_status 402;',
      '"llm_budget_status" directive is duplicate' ],

    # llm_budget_hold_timeout

    [ 'llm_budget_hold_timeout works', loc => 'llm_budget_hold_timeout 1h;' ],
    [ 'llm_budget_hold_timeout is a second at least',
      loc => 'llm_budget_hold_timeout 999ms;',
      '"llm_budget_hold_timeout" directive must be at least 1s, and longer '
      . 'than the longest silence of a call, as 15m' ],
    [ 'llm_budget_hold_timeout works with a second',
      loc => 'llm_budget_hold_timeout 1s;' ],
    [ 'llm_budget_hold_timeout is checked where nothing is metered',
      plain => 'llm_budget_hold_timeout 0;', 'must be at least 1s' ],
    [ 'llm_budget_hold_timeout is a time',
      loc => 'llm_budget_hold_timeout soon;', 'invalid value' ],
    [ 'llm_budget_hold_timeout is refused twice',
      loc => 'llm_budget_hold_timeout 1h; llm_budget_hold_timeout 1h;',
      '"llm_budget_hold_timeout" directive is duplicate' ],

    # llm_budget_max_body

    [ 'llm_budget_max_body works', loc => 'llm_budget_max_body 1m;' ],
    [ 'llm_budget_max_body is a size', loc => 'llm_budget_max_body big;',
      'invalid value' ],
    [ 'llm_budget_max_body is not 0', loc => 'llm_budget_max_body 0;',
      '"llm_budget_max_body" directive must not be 0, which would refuse '
      . 'every call: give the largest body, as 64m' ],
    [ 'llm_budget_max_body is refused twice',
      loc => 'llm_budget_max_body 1m; llm_budget_max_body 1m;',
      '"llm_budget_max_body" directive is duplicate' ],

    # llm_budget_api

    [ 'llm_budget_api works', plain => 'llm_budget_api;' ],
    [ 'llm_budget_api is refused in a server', server => 'llm_budget_api;',
      '"llm_budget_api" directive is not allowed here' ],
    [ 'llm_budget_api takes no argument', plain => 'llm_budget_api on;',
      'invalid number of arguments in "llm_budget_api"' ],
    [ 'llm_budget_api is refused twice',
      plain => 'llm_budget_api; llm_budget_api;',
      '"llm_budget_api" directive is duplicate' ],
);

for my $case (@cases) {
    my ($title, @rest) = @$case;
    my $wanted = @rest % 2 ? pop @rest : undef;
    my ($passed, $text) = check_conf(conf(@rest), files => \%files);

    if (!defined $wanted) {
        ok($passed, $title) or diag($text);
        next;
    }

    $wanted = quotemeta($wanted) if !ref $wanted;

    like($passed ? 'it passed' : $text, qr/\[emerg\].*$wanted/, $title);
}

warnings();
done_testing();


sub conf {
    my (%opt) = @_;

    my %text = map { $_ => $opt{$_} // '' } qw(main http server loc plain
                                               last);
    my $prices = $opt{prices} // 'llm_budget_prices %%PRICES%%;';
    my $metered = $opt{metered} // 'llm_budget on;';

    return <<"END";
$text{main}
http {
    $prices
    $text{http}

    upstream standin { server 127.0.0.1:9; }

    server {
        listen 127.0.0.1:%%PORT%%;
        $text{server}

        location /v1/ {
            $metered
            $text{loc}
            proxy_pass http://standin;
        }

        location /plain {
            $text{plain}
        }
    }

    $text{last}
}
END
}


# What passes, but is worth a word.

sub warnings {
    my $provider = 'llm_budget_provider p { pass http://standin; '
                   . 'api_key %s; }';

    warning('a credential without llm_budget_key',
            'provider "p" has a credential, but without "llm_budget_key" '
            . 'any key is let in',
            http => sprintf($provider, 'sk-1'), loc => 'llm_budget_pass p;');
    warning('a credential with llm_budget_key', undef,
            http => sprintf($provider, 'sk-1'),
            loc => 'llm_budget_pass p; llm_budget_key $arg_a;');
    warning('a credential that everybody can read',
            '/key" is readable by everybody',
            http => sprintf($provider, 'file:key'));
    warning('an alias that a price stands before',
            'llm_budget_price_alias "m-std" has no effect: the prices have a '
            . 'model of that name',
            http => 'llm_budget_price_alias m-std m-mini;');
}


sub warning {
    my ($title, $wanted, @conf) = @_;

    my ($passed, $text) = check_conf(conf(@conf), files => \%files);

    ok($passed, "$title passes");

    if (!defined $wanted) {
        unlike($text, qr/\[warn\]/, 'without a warning');
        return;
    }

    like($text, qr/\[warn\].*\Q$wanted\E/, 'with a warning');
}
