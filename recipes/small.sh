#!/usr/bin/env bash
# bash run.sh -c small: a voice whose acoustic model and vocoder are trained apart. Two acoustic models, each on half of
# the clips, give the vocoder latents of the other half, which they have not seen; the acoustic model that will speak
# learns all of the clips, and after it F0 about its contour.

. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

case " ${GIVEN[*]} " in
    *" small-gpu "*) fold=2000 vocoder=44000 acoustic=4000 residual=1600 rates=(5.0e-4 2.0e-4 4.0e-4) ;;
    *) fold=1100 vocoder=7000 acoustic=1800 residual=1000 rates=(1.0e-3 5.0e-4 2.0e-3) ;;
esac

fold() {  # even | odd
    run "fold_$1" dataset.fold="$1" training.train_num_steps=$fold \
        "training.stages=[{parts: {text_encoder: 1.0e-3, decoder: 1.0e-3}, final: 0.03}]" "${GIVEN[@]}" &&
        latents "fold_$1" --times 1.0 0.48 0.1 --shares 0.8 0.1 0.1
}

vocoder() {  # on true latents, and then, with discriminators, on the out-of-fold ones
    run vocoder training.train_num_steps=$vocoder \
        "training.gta_folders=[\"checkpoint/$VOICE/fold_even/gta\", \"checkpoint/$VOICE/fold_odd/gta\"]" \
        "training.stages=[{parts: {generator: ${rates[0]}}, latents: 'true', share: 0.15, final: 0.5}, \
            {parts: {generator: ${rates[1]}, discriminators: ${rates[2]}}, latents: gta, share: 0.85, final: 0.03}]" \
        "${GIVEN[@]}"
}

acoustic_model() {
    run acoustic_model training.train_num_steps=$acoustic \
        "training.stages=[{parts: {text_encoder: 1.0e-3, prosody: 1.0e-3, decoder: 1.0e-3}, final: 0.03}]" "${GIVEN[@]}"
}

f0_residual() {  # along the initial alignment, which costs no search
    run f0_residual -from "text_encoder,prosody,decoder=$VOICE/acoustic_model" fine_tuning.rate=1.0 \
        alignment.init_steps=1000000 training.train_num_steps=$residual \
        "training.stages=[{parts: {f0_residual: 1.0e-3}, final: 0.02}]" "${GIVEN[@]}"
}

voice() {  # all parts together: measured on held-out clips, and written
    run "" -from "text_encoder,prosody,f0_residual,decoder=$VOICE/f0_residual" -from "generator,discriminators=$VOICE/vocoder" \
        "${GIVEN[@]}" training.train_num_steps=0
}

both "fold even" "fold odd"
both vocoder "acoustic_model && f0_residual"
one voice
