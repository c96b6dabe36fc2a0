#!/usr/bin/perl
use strict; use warnings;
use FindBin; use lib "$FindBin::Bin/lib";
use Test::More; use LLMBudget;
need_module();
my $s = start_standin();
my $nginx = start_nginx(workers => 2, conf => llm_conf(
   location => '            llm_budget_degrade at=75% m-std=m-mini;'));
my $h = { Authorization => 'Bearer k1' };
my $msgs = [{ role => 'user', content => 'abcd' x 10 }];
for my $case (
  ['/v1/chat/completions', { model=>'m-std', messages=>$msgs }],
  ['/v1/chat/completions', { model=>'m-std', messages=>$msgs, stream=>\1 }],
  ['/v1/chat/completions', { model=>'m-std', messages=>$msgs, stream=>\1, stream_options=>{include_usage=>\1} }],
  ['/v1/completions', { model=>'m-std', prompt=>'hello world', max_tokens=>20 }],
  ['/v1/completions', { model=>'m-std', prompt=>'hello world', max_tokens=>20, stream=>\1 }],
  ['/v1/responses', { model=>'m-std', input=>'hello world', max_output_tokens=>20 }],
  ['/v1/responses', { model=>'m-std', input=>'hello world', stream=>\1 }],
  ['/v1/embeddings', { model=>'m-embed', input=>'hello world' }],
  ['/v1/messages', { model=>'c-std', messages=>$msgs, max_tokens=>20 }],
  ['/v1/messages', { model=>'c-std', messages=>$msgs, max_tokens=>20, stream=>\1 }],
) {
  my $a = post_json($case->[0], $case->[1], headers=>$h);
  is($a->{status}, 200, "$case->[0]") or diag explain $a;
  diag $a->{raw} if $ENV{SHOW};
}
my $a = post_json('/v1/chat/completions', { model=>'nope', messages=>$msgs }, headers=>$h);
diag $a->{raw};
balanced('the books agree');
diag join "\n", map { LLMBudget::read_file("$nginx->{dir}/usage.log") } 1 if $ENV{SHOW};
$nginx->stop;
done_testing();
