#!/usr/bin/env perl

# Copyright (C) the ngx_http_llm_budget_module authors

# What was held bounds a fallback, too: its entry of the price map may know no
# greatest output, or a greater one (T20, T51).


use strict;
use warnings;

use FindBin;
use lib "$FindBin::Bin/lib";

use JSON::PP ();
use Test::More;

use LLMBudget;


need_module();

my $standin = start_standin();
my $map = "$LLMBudget::BUILD/fallback-bound-$$.json";

write_file($map, JSON::PP->new->encode({
    map { $_->[0] => { litellm_provider => $_->[1], mode => 'chat',
                       input_cost_per_token => 1e-6,
                       output_cost_per_token => $_->[3],
                       defined $_->[2] ? (max_output_tokens => $_->[2]) : () }
    } (['one/m-a', 'one', 100, 1e-5], ['two/m-a', 'two', undef, 1e-7],
       ['one/m-b', 'one', 100, 1e-5], ['two/m-b', 'two', 8000, 1e-7],
       ['one/m-c', 'one', 100, 1e-6], ['two/m-c', 'two', 100, 1e-5])
}));

my $nginx = start_nginx(conf => llm_conf(
    prices => $map,
    http => <<'END',
    llm_budget_provider one { pass http://127.0.0.1:%%PORT5%%; }
    llm_budget_provider two { pass http://standin; }
END
    server => <<'END',
        llm_budget_limit all key=all usd=1000 per=lifetime;
END
    locations => <<'END',
        location /bound/ {
            llm_budget on;
            llm_budget_pass one;
            proxy_next_upstream off;
            error_page 502 = @two;
            proxy_pass $llm_budget_pass;
        }

        location @two {
            llm_budget on;
            llm_budget_pass two;
            proxy_pass $llm_budget_pass;
        }

        location /off/ {
            llm_budget on;
            llm_budget_reserve off;
            llm_budget_pass one;
            proxy_next_upstream off;
            error_page 502 = @two;
            proxy_pass $llm_budget_pass;
        }
END
));

unlink($map);

is(ceiling('m-a'), 100, 'T20: a ceiling is written where nothing bounds');
is(ceiling('m-b'), 100, 'T20: ... or the bound is greater');
is(ceiling('m-b', max_tokens => 7), 7, '... a lower one of the client stays');
is(ceiling('m-b', max_tokens => 700), 100, '... and a greater one does not');

{
    post_json('/v1/completions', { model => 'two/m-b', prompt => 'abcd' },
              headers => { Authorization => 'Bearer k1' });

    is(JSON::PP->new->decode($standin->last_request()->{body})->{max_tokens},
       16, 'T20: the default of completions is written: not all have it');
}

is(call('/bound', 'm-c')->{status}, 502, 'a dearer fallback is refused');
is(call('/off', 'm-c')->{status}, 200,
   'T51: but not where nothing is held in advance');

$nginx->stop(allow => qr/costs? |cost .* are held/);
done_testing();


sub call
{
    my ($place, $model, %more) = @_;

    return post_json("$place/v1/chat/completions", { model => $model,
        messages => [{ role => 'user', content => 'abcd' }], %more },
        headers => { Authorization => 'Bearer k1' }, standin => 'out=5');
}


sub ceiling
{
    my ($model, %more) = @_;

    my $answer = call('/bound', $model, %more);

    is($answer->{status}, 200, "a fallback for $model answers");

    my $body = JSON::PP->new->decode($standin->last_request()->{body});

    return $body->{max_completion_tokens} // $body->{max_tokens};
}
